"""What the hostile suite runs: Python that tries to get out, to take too much, or to stay.

Each program follows `PRELUDE`, which reads from stdin what to go for, and prints `GOT …` for what it should not have got and
`TRIED n` at its end.
"""

PRELUDE = """
import ctypes, errno, json, os, resource, signal, socket, sys, threading, time
host = json.load(sys.stdin)
tried = 0
def attempt(name, action, fine=lambda found: not found):
    global tried
    tried += 1
    try:
        found = action()
    except (OSError, ValueError, KeyError):
        return
    if not fine(found):
        print("GOT", name, repr(found)[:200], flush=True)
def read(path):
    with open(path, "rb") as file:
        return file.read(4096)
def opened(path, flags=os.O_WRONLY):
    os.close(os.open(path, flags))
    return True
def done():
    print("TRIED", tried, flush=True)
"""

# ------------------------------------------------------------------------------------------------------- taking too much

FORK_BOMB = """
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
PROCESSES = """
def fork_all():
    children = []
    try:
        while True:
            child = os.fork()
            if not child:
                time.sleep(60)
            children.append(child)
    except OSError:
        return len(children)
attempt("processes", fork_all, fine=lambda count: 0 < count <= host["processes"])
done()
os._exit(0)
"""
THREADS = """
def start_all():
    count = 0
    try:
        while True:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            count += 1
    except RuntimeError:
        return count
attempt("threads", start_all, fine=lambda count: 0 < count <= host["processes"])
done()
os._exit(0)
"""
MEMORY_BOMB = """
held = []
while True:
    held.append(bytearray(8 << 20))
"""
MEMORY_BY_MANY = """
def hold(size):
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        held = bytearray(size)
        os.write(theirs, b"x")
        time.sleep(60)
    os.close(theirs)
    os.read(ours, 1)
    return child
size = 48 << 20
children = [hold(size) for _ in range(8)]
alive = sum(os.waitpid(child, os.WNOHANG)[0] == 0 for child in children)
attempt("memory", lambda: alive * size, fine=lambda held: held <= host["memory"])
done()
os._exit(0)
"""
DISK_FILL = """
def fill(folder):
    written = 0
    try:
        for number in range(4):
            with open(f"{folder}/fill{number}", "wb", buffering=0) as file:
                for _ in range(12):
                    written += file.write(bytes(1 << 20))
    except OSError:
        pass
    return written
for folder in ("/work", "/tmp", "/dev/shm"):
    attempt("room in " + folder, lambda: fill(folder), fine=lambda written: 0 < written <= host["disk"])
for folder in ("/", "/usr", "/usr/lib", "/dev", "/proc", "/etc", "/bin"):
    attempt("room in " + folder, lambda: fill(folder))
done()
"""
FILE_FLOOD = """
for number in range(10**7):
    open(f"/tmp/{number}", "w").close()
"""
OUTPUT_FLOOD = """
while True:
    os.write(1, b"x" * 65536)
"""
ERROR_FLOOD = """
while True:
    os.write(2, b"x" * 65536)
"""
SPINNING = """
while True:
    pass
"""

# ------------------------------------------------------------------------------------------------------------ getting out

NETWORK = """
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(1)
        one.connect(address)
        return True
def send(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return one.sendto(b"x", address)
attempt("the host's loopback", lambda: connect(socket.AF_INET, ("127.0.0.1", host["port"])))
attempt("the host's loopback, IPv6", lambda: connect(socket.AF_INET6, ("::1", host["port"])))
attempt("the host's abstract socket", lambda: connect(socket.AF_UNIX, "\\0" + host["abstract"]))
for address in ("192.0.2.1", "10.0.0.1", "169.254.169.254"):
    attempt(address, lambda: connect(socket.AF_INET, (address, 80)))
    attempt(address + " by UDP", lambda: send((address, 53)))
attempt("2001:db8::1", lambda: connect(socket.AF_INET6, ("2001:db8::1", 80)))
attempt("a name", lambda: socket.getaddrinfo("example.com", 80))
families = {"netlink": 16, "packet": 17, "vsock": 40, "bluetooth": 31, "can": 29, "raw": 2, "raw IPv6": 10}
for name, family in families.items():
    attempt("a socket: " + name, lambda: socket.socket(family, socket.SOCK_RAW), fine=lambda one: False)
attempt("a socket: alg", lambda: socket.socket(38, socket.SOCK_SEQPACKET), fine=lambda one: False)
done()
"""
HOST_FILES = """
def beside_the_interpreter():
    folder, seen = os.path.dirname(host["python"]), []
    while folder.count("/") > 1:
        folder, below = os.path.split(folder)
        seen += set(os.listdir(folder)) - {below}
    return [] if host["python"] == "/usr" else seen
secrets = [host["file"], *(prefix + host["file"] for prefix in ("/proc/1/root", "/proc/self/root/..", "/work/../..", "/proc/self/cwd/../.."))]
for path in (*secrets, "/etc/shadow", "/etc/passwd", "/etc/hostname", "/sys/kernel", "/run/systemd", "/var/log", "/boot", "/home"):
    attempt(path, lambda: os.listdir(path) if os.path.isdir(path) else read(path))
devices = ("sd", "vd", "nvme", "loop", "dm-", "kvm", "mem", "kmsg", "fuse")
attempt("a device", lambda: [name for name in os.listdir("/dev") if name.startswith(devices)])
ours = {"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "tmp", "usr", "work", host["python"].split("/")[1]}
attempt("a folder of the host", lambda: set(os.listdir("/")) - ours)
attempt("what lies beside the interpreter", beside_the_interpreter)
attempt("the system", lambda: opened("/usr/bin/env"))
done()
"""
ENVIRONMENT = """
def names(path):
    return {entry.split(b"=")[0].decode() for entry in read(path).split(b"\\0") if entry}
attempt("a variable", lambda: set(os.environ) - set(host["environment"]))
for process in (name for name in os.listdir("/proc") if name.isdigit()):
    attempt(f"the environment of process {process}", lambda: names(f"/proc/{process}/environ") - set(host["environment"]))
    attempt(f"the arguments of process {process}", lambda: host["file"].encode() in read(f"/proc/{process}/cmdline"))
done()
"""
SIGNALS = """
def signalled(process, number=signal.SIGKILL):
    try:
        os.kill(process, number)
        return True
    except OSError:
        return False
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
attempt("the launcher", lambda: signalled(host["pid"], 0))
attempt("the launcher's group", lambda: os.killpg(host["pid"], 0) or True)
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV):
    attempt("process 1", lambda: signalled(1, number) and False)
attempt("everybody", lambda: os.kill(-1, signal.SIGTERM))
attempt("a sweep", lambda: [process for process in range(200, 50000) if signalled(process)])
done()
"""
PROC_TRICKS = """
def put(path, text):
    file = os.open(path, os.O_WRONLY)
    try:
        return os.write(file, text)
    finally:
        os.close(file)
for name in ("kernel/core_pattern", "kernel/modprobe", "kernel/sysrq", "vm/overcommit_memory", "vm/drop_caches", "net/ipv4/ip_forward",
             "fs/suid_dumpable", "kernel/hostname", "user/max_user_namespaces", "kernel/ns_last_pid"):
    attempt("writing /proc/sys/" + name, lambda: opened("/proc/sys/" + name))
for name in ("sysrq-trigger", "1/setgroups", "irq/default_smp_affinity", "mtrr"):
    attempt("writing /proc/" + name, lambda: opened("/proc/" + name))
for name in ("kcore", "kmsg", "vmallocinfo", "slabinfo"):
    attempt("reading /proc/" + name, lambda: opened("/proc/" + name, os.O_RDONLY))
if host["own_uid"]:
    for name in ("mem", "environ", "fd/0", "root"):
        attempt("process 1: " + name, lambda: opened("/proc/1/" + name, os.O_RDONLY))
def held_by(process):
    folder = f"/proc/{process}/fd"
    return [link for link in (os.readlink(f"{folder}/{n}") for n in os.listdir(folder)) if not link.startswith(("pipe:", "anon_inode:"))]
attempt("the files of process 1", lambda: held_by(1))
attempt("hiding from the memory killer", lambda: put("/proc/self/oom_score_adj", b"-1000"))
attempt("a map of users", lambda: put("/proc/self/uid_map", b"0 0 1"))
attempt("a process of the host", lambda: [process for process in os.listdir("/proc") if process.isdigit() and int(process) > 200])
done()
"""
PRIVILEGES = """
for change in (os.setuid, os.setgid, os.seteuid):
    attempt(change.__name__, lambda: change(0) or "root")
attempt("groups", lambda: os.setgroups([0]) or "root")
for limit in ("NPROC", "CPU", "FSIZE", "NOFILE", "CORE", "MEMLOCK", "STACK"):
    number = getattr(resource, "RLIMIT_" + limit)
    attempt(limit, lambda: resource.setrlimit(number, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)) or "no limit")
attempt("niceness", lambda: os.nice(-5) or "nicer")
attempt("a setuid program", lambda: os.popen("su -c id < /dev/null 2> /dev/null").read())
attempt("a mount", lambda: os.popen("mount -t tmpfs none /tmp 2> /dev/null && echo mounted").read())
attempt("a namespace", lambda: os.popen("unshare -Ur id -u 2> /dev/null").read())
attempt("a sandbox of its own", lambda: os.popen("bwrap --ro-bind / / --dev /dev echo nested 2> /dev/null").read())
done()
"""
SYSTEM_CALLS = """
libc = ctypes.CDLL(None, use_errno=True)
space = ctypes.create_string_buffer(4096)
def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    return ctypes.get_errno() if result < 0 else 0
for name, number in host["forbidden"].items():
    attempt(name, lambda: call(number, 0, 0, 0, 0, 0, 0), fine=lambda code: code == errno.EPERM)
for name, number in host["missing"].items():
    attempt(name, lambda: call(number, 0, 0, 0, 0, 0, 0), fine=lambda code: code == errno.ENOSYS)
for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
    attempt(f"clone with {flag:#x}", lambda: call(host["checked"]["clone"], flag | 17, 0, 0, 0, 0), fine=lambda code: code == errno.EPERM)
for request in (0x5412, 0x541C):
    attempt(f"ioctl {request:#x}", lambda: call(host["checked"]["ioctl"], 0, request, space), fine=lambda code: code == errno.EPERM)
def x32():
    child = os.fork()
    if not child:
        call(0x40000000 + 39)
        os._exit(0)
    return os.waitpid(child, 0)[1] & 0x7F
if host["x32"]:
    attempt("x32", x32, fine=lambda ended_by: ended_by == signal.SIGSYS)
done()
"""
LINKS = """
for name, target in (("link", host["file"]), ("shadow", "/etc/shadow"), ("root", "/"), ("up", ".."), ("self", "/proc/self/root" + host["file"])):
    attempt("a link", lambda: os.symlink(target, name))
attempt("a hard link", lambda: os.link("/usr/bin/env", "hard") or "made")
attempt("a pipe", lambda: os.mkfifo("pipe") or "made")
attempt("a device", lambda: os.mknod("device", 0o20666, os.makedev(1, 3)) or "made")
attempt("a socket", lambda: socket.socket(socket.AF_UNIX).bind("socket"))
attempt("a deep folder", lambda: os.makedirs("/".join("d" * 60)))
attempt("an odd name", lambda: open(b"odd\\xff\\n", "w").close())
with open("plain", "w") as file:
    file.write("plain")
done()
"""

# ---------------------------------------------------------------------------------------------------------------- staying

DAEMONS = """
for _ in range(3):
    if not os.fork():
        os.setsid()
        if not os.fork():
            for file in range(3):
                os.close(file)
            time.sleep(300)
        os._exit(0)
attempt("nothing", lambda: None)
done()
"""
SLEEPING = """
time.sleep(300)
"""
SILENT_SLEEPING = """
for file in range(3):
    os.close(file)
time.sleep(300)
"""
CRASH = """
ctypes.string_at(0)
"""
