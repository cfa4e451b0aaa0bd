"""A disk that records what is written to it, on this machine: qemu-storage-daemon's `blklogwrites` exported over FUSE, and
loop mounts, all in a mount namespace of this process, so that nothing stays mounted however it ends.
"""
import ctypes, glob, os, shutil, subprocess, sys, time

NEEDS = {"qemu-storage-daemon": "qemu-system-common", "mkfs.ext4": "e2fsprogs", "setpriv": "util-linux", "mount": "mount"}
IMAGE_BYTES = 16 << 20
LIBC = ctypes.CDLL(None, use_errno=True)


class Skipped(Exception):
    pass


def call(*command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def check_machine():
    """Raises Skipped if this machine cannot run the rig, and gives this process mounts of its own."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Skipped("not root on Linux")
    for device in ("/dev/fuse", "/dev/loop-control"):
        try:
            os.close(os.open(device, os.O_RDWR))
        except OSError as error:
            raise Skipped(f"{device}: {error.strerror}") from None
    new_namespace, recursive_private = 0x20000, 0x4000 | 1 << 18
    if LIBC.unshare(new_namespace) != 0 or LIBC.mount(b"none", b"/", None, recursive_private, None) != 0:
        raise Skipped(f"no mount namespace of its own: {os.strerror(ctypes.get_errno())}")


def install():
    for update in (False, True):
        packages = sorted({package for tool, package in NEEDS.items() if not shutil.which(tool)})
        if not packages:
            return
        if not shutil.which("apt-get"):
            raise Skipped(f"{packages} missing, and no apt-get here")
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 300,
                 "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        if update:
            subprocess.run(["apt-get", "update"], **quiet)
        subprocess.run(["apt-get", "install", "--yes", "--no-install-recommends", *packages], **quiet)
    missing = [tool for tool in NEEDS if not shutil.which(tool)]
    if missing:
        raise Skipped(f"{missing} cannot be installed")


def new_image(path):
    """An empty ext4 whose background threads write nothing by themselves."""
    with open(path, "wb") as file:
        file.truncate(IMAGE_BYTES)
    call("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-N", "256", "-J", "size=4",
         "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", path)


def check_loop_mounts(folder):
    """Raises Skipped if an ext4 image cannot be mounted here at all."""
    image = os.path.join(folder, "probe.img")
    new_image(image)
    try:
        with Mounted(image, os.path.join(folder, "probe")):
            pass
    except RuntimeError as error:
        raise Skipped(f"no loop mounts: {error}") from None
    os.unlink(image)


def write_early(path):
    """Starts the writeback of a file's dirty pages with no flush behind it, as the kernel does when it likes."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return  # truncated meanwhile
    start_writing = 2
    LIBC.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), start_writing)
    os.close(fd)


class Mounted:
    """An image file mounted by a loop device that frees itself."""

    def __init__(self, image, at):
        self.image, self.at = image, at

    def __enter__(self):
        os.makedirs(self.at, exist_ok=True)
        call("mount", "-t", "ext4", "-o", "loop,nodiscard", self.image, self.at)
        return os.path.join(self.at, "wal")

    def __exit__(self, *_):
        call("umount", self.at)
        os.rmdir(self.at)


class Disk:
    """The recorded disk: a file that behaves like `image`, while every write to it goes into a write log."""

    def __init__(self, image, folder):
        self.export, self.log = os.path.join(folder, "export.img"), os.path.join(folder, "write.log")
        for path in (self.export, self.log):
            open(path, "wb").close()
        raw = shutil.copy(image, os.path.join(folder, "disk.img"))
        self.command = [
            "setpriv", "--pdeathsig", "KILL", "qemu-storage-daemon",
            "--blockdev", f"driver=file,node-name=raw,filename={raw}",
            "--blockdev", f"driver=file,node-name=log,filename={self.log}",
            "--blockdev", "driver=blklogwrites,node-name=top,file=raw,log=log,log-sector-size=512",
            "--export", f"type=fuse,id=export,node-name=top,mountpoint={self.export},writable=on",
        ]

    def __enter__(self):
        self.daemon = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 20
        while os.stat(self.export).st_size == 0:
            if self.daemon.poll() is not None or time.monotonic() > until:
                self.__exit__()
                raise RuntimeError(f"qemu-storage-daemon exports nothing: {self.daemon.stderr.read().strip()}")
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.daemon.terminate()
        try:
            self.daemon.wait(20)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()


def unmount_all(work):
    """Unmounts whatever a failure left under a directory, deepest first."""
    with open("/proc/self/mounts") as file:
        mounts = [line.split()[1] for line in file]
    for at in sorted((m for m in mounts if m.startswith(work)), reverse=True):
        subprocess.run(["umount", "--lazy", at], stderr=subprocess.DEVNULL)


def left_behind(work):
    """Loop devices that still hold a file of ours; they free themselves a moment after the last unmount."""
    until = time.monotonic() + 10
    while True:
        held = []
        for path in glob.glob("/sys/block/loop*/loop/backing_file"):
            try:
                with open(path) as file:
                    held += [path] if file.read().startswith(work + "/") else []
            except OSError:
                pass  # freed between the two looks
        if not held or time.monotonic() > until:
            return held
        time.sleep(0.05)
