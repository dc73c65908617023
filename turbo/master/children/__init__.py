"""The children: started, watched, limited, recycled; what their death does."""
