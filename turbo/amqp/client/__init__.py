"""What an ordinary process uses: a blocking publisher, replies, and questions to workers."""
