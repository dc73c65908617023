"""The files of large bodies: used again only when nobody can read what they held."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Iterator

import pytest

from turbo.ring import body_files
from turbo.ring.body_files import BodyFiles
from turbo.ring.link import ChildLink, MasterLink

SIZE = 200_000
Pair = tuple[MasterLink, ChildLink]


@pytest.fixture
def files() -> Iterator[BodyFiles]:
    made = BodyFiles()
    yield made
    made.close()


@contextlib.contextmanager
def pair(epoch: int, files: BodyFiles) -> Iterator[Pair]:
    master = MasterLink(epoch, files=files)
    child = ChildLink.attach(epoch, [os.dup(fd) for fd in master.child_fds()])
    yield master, child
    child.close()
    master.close()


@pytest.fixture
def links(files: BodyFiles) -> Iterator[Pair]:
    with pair(1, files) as found:
        yield found


def give(master: MasterLink, body: bytes) -> int:
    seq = master.stage(1, [b"head", body])
    assert seq is not None
    master.commit()
    return seq


def inode(master: MasterLink, seq: int) -> int:
    return os.fstat(master._bodies[seq].fd).st_ino


def test_a_body_that_was_read_makes_room_for_the_next(links: Pair) -> None:
    master, child = links
    seen = set()
    for letter, size in ((b"a", SIZE), (b"b", SIZE // 2), (b"c", SIZE)):
        seq = give(master, letter * size)
        seen.add(inode(master, seq))
        assert child.claim() == (1, seq, b"head" + letter * size)
        master.release(seq)
    assert len(seen) == 1


def test_bodies_on_their_way_never_share_a_file(links: Pair) -> None:
    master, child = links
    bodies = {give(master, letter * SIZE): letter * SIZE for letter in (b"a", b"b", b"c")}
    assert len({inode(master, seq) for seq in bodies}) == 3
    for seq, body in bodies.items():
        assert child.claim() == (1, seq, b"head" + body)
    # Claimed and not released: what they hold may not be overwritten yet.
    assert inode(master, give(master, b"d" * SIZE)) not in {inode(master, seq) for seq in bodies}


def test_a_body_taken_back_makes_room_although_its_descriptor_waits_unread(links: Pair) -> None:
    master, child = links
    first = give(master, b"a" * SIZE)
    file = inode(master, first)
    assert master.take_back() == first
    second = give(master, b"b" * SIZE)
    assert inode(master, second) == file
    assert child.claim() == (1, second, b"head" + b"b" * SIZE)
    assert child.claim() is None


def test_files_serve_every_child(files: BodyFiles, links: Pair) -> None:
    master, child = links
    seq = give(master, b"a" * SIZE)
    file = inode(master, seq)
    child.claim()
    master.release(seq)
    with pair(2, files) as (other, reader):
        seq = give(other, b"b" * SIZE)
        assert inode(other, seq) == file
        assert reader.claim() == (1, seq, b"head" + b"b" * SIZE)


def test_what_a_dead_child_may_still_hold_is_not_reused(files: BodyFiles) -> None:
    with pair(1, files) as (master, child):
        give(master, b"a" * SIZE)
        child.claim()
    assert files._unused == []


def test_nobody_but_the_master_can_write_into_a_file(links: Pair) -> None:
    master, _ = links
    fd = os.dup(master._bodies[give(master, b"a" * SIZE)].fd)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 1 << 24)
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SEAL
    finally:
        os.close(fd)


def test_a_file_that_is_given_up_frees_its_memory_at_once(files: BodyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_files, "MOST_UNUSED", 3 * 65_536)
    first, second = (files.fill([b"x" * 100_000], 100_000) for _ in range(2))
    held = os.dup(first.fd)
    files.give_back(first, unread=True)
    assert os.fstat(held).st_size == 131_072
    files.give_back(second, unread=False)
    assert os.fstat(held).st_size == 0
    os.close(held)
    assert [file.fd for file in files._unused] == [second.fd]


def test_a_very_large_body_is_not_reused(files: BodyFiles) -> None:
    size = body_files.LARGEST_REUSED + 1
    file = files.fill([b"x" * size], size)
    assert fcntl.fcntl(file.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
    files.give_back(file, unread=False)
    assert files._unused == []


def test_a_body_that_cannot_be_mapped_is_tried_again_like_one_without_memory(
    links: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, child = links

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with monkeypatch.context() as patched:
        patched.setattr(mmap, "mmap", full)
        # What the dispatcher takes for a reason to wait; anything else would be a fault of the ring.
        with pytest.raises(OSError, match="cannot map"):
            master.stage(1, [b"a" * SIZE])
    seq = give(master, b"b" * SIZE)
    assert child.claim() == (1, seq, b"head" + b"b" * SIZE)
