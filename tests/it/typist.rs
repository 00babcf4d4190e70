//! Somebody at a terminal, who waits for what a program shows before they type the next line.

/// The window that the program runs in.
pub const ROWS: u16 = 33;
pub const COLUMNS: u16 = 111;

/// A program in a terminal of its own, a VT220. It is shown what it shows after the last line that was typed, and ends with
/// the program; what is waited for in vain ends it, too, and fails.
const TYPIST: &str = r##"
import fcntl, json, os, pty, re, select, struct, sys, termios, time
lines, rows, columns = json.loads(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.environ["TERM"] = "vt220"
    os.execvp(sys.argv[2], sys.argv[2:])
seen = b""
def until(what):
    global seen
    end = time.time() + 30
    while not (found := re.search(what, seen, re.DOTALL)):
        if not select.select([fd], [], [], max(0, end - time.time()))[0]: raise SystemExit("no %r in %r" % (what, seen))
        try: seen += os.read(fd, 4096)
        except OSError: raise SystemExit("ended before %r: %r" % (what, seen))
    seen = seen[found.end():]
for shown, typed in lines:
    until(shown.encode())
    if typed == "\0": raise SystemExit(0)
    os.write(fd, typed.encode() + b"\r")
try:
    while True: seen += os.read(fd, 4096)
except OSError: pass
print(seen.decode(errors="replace"))
"##;

/// Typed last: whatever runs in the terminal, that is closed.
pub const HANG_UP: &str = "\0";

/// By `run`, runs `program` in a terminal and, for each of `lines`, waits until something is shown that the first, a regular
/// expression, describes, and types the second.
pub fn typing<T>(lines: &[(&str, &str)], program: &[&str], run: impl FnOnce(&[&str]) -> T) -> T {
    let lines = serde_json::json!([lines, ROWS, COLUMNS]).to_string();
    run(&[&["timeout", "120", "/usr/bin/python3", "-c", TYPIST, &lines][..], program].concat())
}
