"""Crash states of a disk: from what qemu's `blklogwrites` recorded, the images a power cut could have left.

The write log is a superblock (u64 magic, version, entries; u32 sector size) and entries in the order in which the disk
completed them, each a header sector (u64 sector, count, flags, data length) and its data. What was written before the
last completed flush is on the disk; of what came after, each 512-byte sector may be or not be. (qemu's FUSE export
serves one request at a time, so no write that completed before a flush did was still on its way when the flush began.)
"""
import bisect, struct

SECTOR = 512
MAGIC = 0x6A736677736872
FLUSH, DISCARD = 1, 4
SUPERBLOCK = (2, 3)  # its two sectors share a fate: ext4 writes them in place and does not mount a torn one
KEPT_SHARES = (0.0, 0.5, 0.9, 1.0, None)  # of the sectors written after the last flush; None: drawn for each state


class WriteLog:
    """The entries of a write log; `ends[i]` is the length the log had once entry i was in it."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = file.read()
        magic, version, _, sector_bytes = struct.unpack_from("<QQQI", self.bytes)
        if (magic, version, sector_bytes) != (MAGIC, 1, SECTOR):
            raise RuntimeError(f"{path} is no write log with {SECTOR}-byte sectors")
        self.entries, self.ends, at = [], [], SECTOR
        while at + SECTOR <= len(self.bytes):
            sector, count, flags, _ = struct.unpack_from("<QQQQ", self.bytes, at)
            at += SECTOR
            if flags & DISCARD:
                count = 0  # the old content may stay: no file system relies on the contrary
            self.entries.append((sector, count, flags, at))
            at += count * SECTOR
            self.ends.append(at)
        self.flushes = [i for i, entry in enumerate(self.entries) if entry[2] & FLUSH]

    def apply(self, image, entry, keep=None):
        """Writes an entry, or those of its sectors for which `keep()` is true, into a bytearray."""
        sector, count, _, at = entry
        if keep is None:
            image[sector * SECTOR:(sector + count) * SECTOR] = self.bytes[at:at + count * SECTOR]
            return
        kept = False
        for i in range(count):
            if i == 0 or sector + i != SUPERBLOCK[1]:
                kept = keep()
            if kept:
                to, start = (sector + i) * SECTOR, at + i * SECTOR
                image[to:to + SECTOR] = self.bytes[start:start + SECTOR]

    def cut(self, random, near):
        """How many entries had reached the disk's cache: any number; what there was right before a flush, when most is
        at stake; or a number close to one of the positions `near`."""
        way = random.randrange(3)
        if way == 0 and self.flushes:
            return random.choice(self.flushes)
        if way == 1 and near:
            at = bisect.bisect_left(self.ends, random.choice(near))
            return min(max(at + random.randint(-24, 8), 0), len(self.entries))
        return random.randrange(len(self.entries) + 1)


class CrashState:
    def __init__(self, position, story, image):
        self.position, self.story, self.image = position, story, image


def crash_states(base_path, log, random, count, near):
    """Yields `count` states of the disk that held `base_path` when the recording began, in the order of their cuts."""
    with open(base_path, "rb") as file:
        durable = bytearray(file.read())
    done = 0  # entries that `durable` holds
    for cut in sorted(log.cut(random, near) for _ in range(count)):
        flushed = bisect.bisect_left(log.flushes, cut)
        until = log.flushes[flushed - 1] if flushed else 0
        for entry in log.entries[done:until]:
            log.apply(durable, entry)
        done = max(done, until)
        image, late = bytearray(durable), log.entries[until:cut]
        share = random.choice(KEPT_SHARES)
        share = random.random() if share is None else share
        whole_requests = random.random() < 0.25
        for entry in late:
            if not whole_requests:
                log.apply(image, entry, lambda: random.random() < share)
            elif random.random() < share:
                log.apply(image, entry)
        story = f"cut after entry {cut} of {len(log.entries)}, {share:.2f} of {len(late)} unflushed kept"
        yield CrashState(log.ends[cut - 1] if cut else SECTOR, story, image)


def positions(journal, kind):
    """Where in the write log facts of one kind became true."""
    with open(journal) as file:
        return [int(line.split(" ", 2)[1]) for line in file if line.startswith(kind + " ")]


def records_acknowledged(journal):
    """How many records were promised, each counted once however often an open showed it again."""
    with open(journal) as file:
        return len({line.split(" ", 3)[2] for line in file if line.startswith("acked ")})


def past(journal, position):
    """The lines of a writer's journal that were true at this position, as the past of the next recording."""
    kept = []
    with open(journal) as file:
        for line in file:
            kind, at, rest = line.split(" ", 2)
            if int(at) <= position:
                kept.append(f"{kind} 0 {rest}")
    return "".join(kept)
