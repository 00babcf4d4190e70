//! What programs that fetch files are told to fetch: the URLs among their arguments, as wget, curl, tftp and ftpget read
//! these.
//!
//! Arguments are whatever somebody has written, and these programs have hundreds of options. So what may be the value of an
//! option is taken for no URL: rather one is missing than one is told that nobody wanted.

/// URLs of one program.
const MOST: usize = 8;

/// How a program reads its arguments.
struct Reads {
    name: &'static [u8],
    /// Letters of options that have a value, and words of those.
    letters: &'static [u8],
    words: &'static str,
    /// Letters and words with which nothing is fetched.
    not: (&'static [u8], &'static str),
}

const WGET: Reads = Reads {
    name: b"wget",
    letters: b"aABDeGgiIlmoOPQRtTUwXY",
    words: "append-output base bind-address body-data ca-certificate ca-directory certificate ciphers config \
        connect-timeout cut-dirs default-page directory-prefix dns-timeout domains exclude-directories exclude-domains \
        execute follow-tags ftp-password ftp-user header http-password http-user ignore-tags include-directories \
        input-file level limit-rate load-cookies local-encoding max-redirect method output-document output-file password \
        post-data prefer-family private-key progress proxy-password proxy-user quota read-timeout referer reject \
        remote-encoding restrict-file-names save-cookies secure-protocol start-pos timeout tries user user-agent wait \
        waitretry",
    not: (b"", "spider post-file body-file"),
};

const CURL: Reads = Reads {
    name: b"curl",
    letters: b"AbcCdDeEFhHKmoPQrtuUwxXyYz",
    words: "abstract-unix-socket aws-sigv4 cacert capath cert cert-type ciphers config connect-timeout connect-to \
        continue-at cookie cookie-jar data data-ascii data-binary data-raw data-urlencode dns-interface dns-servers \
        doh-url dump-header expect100-timeout form form-string ftp-method ftp-port header interface json keepalive-time \
        key key-type limit-rate local-port max-filesize max-redirs max-time netrc-file noproxy oauth2-bearer output \
        output-dir parallel-max pass pinnedpubkey preproxy proto proto-default proto-redir proxy proxy-header proxy-user \
        proxy1.0 quote range rate referer request request-target resolve retry retry-delay retry-max-time socks4 socks4a \
        socks5 socks5-hostname speed-limit speed-time stderr time-cond tls-max trace trace-ascii unix-socket url-query \
        user user-agent write-out",
    not: (b"IT", "head upload-file"),
};

const TFTP: Reads = Reads { name: b"tftp", letters: b"lrbmR", words: "", not: (b"p", "") };
const FTPGET: Reads = Reads { name: b"ftpget", letters: b"uPp", words: "username password port", not: (b"", "") };

/// The URLs that a program with this path and these arguments is to fetch; none if it is no program that fetches.
pub(super) fn urls(path: &[u8], arguments: &[&[u8]]) -> Vec<Vec<u8>> {
    let name = |path: &[u8]| path.rsplit(|octet| *octet == b'/').next().unwrap_or_default().to_vec();
    let (own, rest) = arguments.split_first().map_or((Vec::new(), arguments), |(own, rest)| (name(own), rest));
    // `busybox wget ...`
    let (applet, behind) = match rest.split_first() {
        Some((applet, behind)) if own == b"busybox" => (applet.to_vec(), behind),
        _ => (own, rest),
    };
    let names = [applet, name(path)];
    let is_it = |reads: &&Reads| names.iter().any(|name| name == reads.name);
    let Some(reads) = [&WGET, &CURL, &TFTP, &FTPGET].into_iter().find(is_it) else { return Vec::new() };
    let Some(words) = reads.words_of(behind) else { return Vec::new() };
    let mut urls = match reads.name {
        b"tftp" => tftp(behind, &words).into_iter().collect(),
        b"ftpget" => match words.as_slice() {
            [host, .., file] => vec![joined(b"ftp://", host, file)],
            _ => Vec::new(),
        },
        _ => words.into_iter().map(whole).collect::<Vec<_>>(),
    };
    urls.truncate(MOST);
    urls
}

/// What is meant by what may lack the beginning.
fn whole(url: &[u8]) -> Vec<u8> {
    match url.windows(3).any(|part| part == b"://") {
        true => url.to_vec(),
        false => [b"http://", url].concat(),
    }
}

fn joined(scheme: &[u8], host: &[u8], path: &[u8]) -> Vec<u8> {
    [scheme, host, b"/", path.strip_prefix(b"/").unwrap_or(path)].concat()
}

/// busybox's, and that of tftp-hpa, which takes a command (`tftp HOST -c get FILE`).
fn tftp(arguments: &[&[u8]], words: &[&[u8]]) -> Option<Vec<u8>> {
    let file = match words {
        [_, b"get", file, ..] => file,
        _ => arguments.iter().zip(arguments.get(1..)?).find_map(|(option, file)| (*option == b"-r").then_some(file))?,
    };
    Some(joined(b"tftp://", words.first()?, file))
}

impl Reads {
    /// The words among the arguments that belong to no option; none if nothing is fetched.
    fn words_of<'a>(&self, arguments: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
        let (mut words, mut rest, mut only_words) = (Vec::new(), arguments.iter(), false);
        while let Some(argument) = rest.next() {
            if only_words || !argument.starts_with(b"-") || *argument == b"-" {
                words.push(*argument);
                continue;
            }
            match argument.strip_prefix(b"--") {
                Some(b"") => only_words = true,
                Some(b"url") if self.name == b"curl" => words.extend(rest.next()),
                Some(option) => {
                    let (option, value) = match option.iter().position(|octet| *octet == b'=') {
                        Some(at) => (option.get(..at)?, option.get(at + 1..)),
                        None => (option, None),
                    };
                    let is_of = |list: &str| list.split(' ').any(|word| word.as_bytes() == option);
                    match value {
                        _ if is_of(self.not.1) => return None,
                        Some(url) if self.name == b"curl" && option == b"url" => words.push(url),
                        None if is_of(self.words) => drop(rest.next()),
                        _ => {}
                    }
                }
                None => {
                    // Of letters behind one another the first with a value has the rest for it, or else what comes next.
                    let letters = argument.get(1..).unwrap_or_default();
                    let valued = letters.iter().position(|letter| self.letters.contains(letter));
                    let all = letters.get(..=valued.unwrap_or(letters.len())).unwrap_or(letters);
                    if all.iter().any(|letter| self.not.0.contains(letter)) {
                        return None;
                    }
                    if valued.is_some_and(|at| at + 1 == letters.len()) {
                        rest.next();
                    }
                }
            }
        }
        words.retain(|word| !word.is_empty());
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let urls = urls(words[0], &words);
        urls.iter().map(|url| String::from_utf8_lossy(url)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_fetched_is_what_the_program_would_fetch() {
        for (line, urls) in [
            ("wget http://a/b", "http://a/b"),
            ("/usr/bin/wget -q -O /tmp/x http://a/b", "http://a/b"),
            ("wget -qO- a.example/b", "http://a.example/b"),
            ("wget -qO - https://a/b", "https://a/b"),
            ("wget --referer http://no/ --tries=3 --no-check-certificate http://a/b ftp://c/d", "http://a/b ftp://c/d"),
            ("busybox wget http://a/b", "http://a/b"),
            ("/bin/busybox wget -P /tmp http://a/b", "http://a/b"),
            ("curl -sSLo x http://a/b", "http://a/b"),
            ("curl -o x -x http://proxy:1 -H a:b -- a/b", "http://a/b"),
            ("curl --url http://a/b --url=c/d -fsSL", "http://a/b http://c/d"),
            ("curl -d x=y http://a/b", "http://a/b"),
            ("tftp -g -l /tmp/x -r bot 192.0.2.66", "tftp://192.0.2.66/bot"),
            ("tftp 192.0.2.66 -c get bot", "tftp://192.0.2.66/bot"),
            ("ftpget -u a -p b 192.0.2.66 local /remote", "ftp://192.0.2.66/remote"),
            ("curl -sI http://a/b", ""),
            ("curl -oI http://a/b", "http://a/b"),
            ("curl -T x http://a/b", ""),
            ("curl --upload-file=x http://a/b", ""),
            ("wget --spider http://a/b", ""),
            ("wget --help", ""),
            ("tftp -p -l x -r y 192.0.2.66", ""),
            ("ftpget 192.0.2.66", ""),
            ("busybox", ""),
            ("sh -c wget", ""),
        ] {
            assert_eq!(of(line), urls, "{line}");
        }
        assert_eq!(urls(b"/usr/bin/wget", &[b"kworker", b"http://a/b"]), [b"http://a/b"], "whatever it calls itself");
        assert_eq!(urls(b"", &[]), Vec::<Vec<u8>>::new());
    }

    proptest! {
        #[test]
        fn whatever_the_arguments_are(
            name in "wget|curl|tftp|ftpget|busybox",
            arguments in prop::collection::vec("(-{0,3}[a-zA-Z=]{0,5}|--url|-r|wget|\\PC{0,9})", 0..12)
        ) {
            let all: Vec<&[u8]> = [name.as_bytes()].into_iter().chain(arguments.iter().map(String::as_bytes)).collect();
            prop_assert!(urls(b"", &all).len() <= MOST);
        }
    }
}
