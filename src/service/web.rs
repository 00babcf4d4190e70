//! Web sites that ask for a password: their pages, and what comes back of their forms.

use std::collections::BTreeMap;

use super::library::{Login, base64};
use super::{HttpSite, Page};
use crate::event::EventId;

/// Where the answer to a form stands among a site's pages: no request has a `?` in its path.
const DENIED: &str = "/login?denied";

/// The applications that a site can pass for.
pub const APPS: [&str; 3] = ["login-portal", "webmail", "router-admin"];

/// How an application looks.
struct Look {
    server: &'static str,
    title: &'static str,
    /// The heading, the names of the two fields and what the button says.
    form: [&'static str; 4],
    denied: &'static str,
    style: &'static str,
    foot: &'static str,
}

fn look(app: &str) -> Option<Look> {
    let look = match app {
        "login-portal" => Look {
            server: "nginx/1.22.1",
            title: "Employee Portal",
            form: ["Sign in with your company account", "username", "password", "Sign in"],
            denied: "The user name or password is incorrect.",
            style: "body{background:#eef1f5;font-family:Segoe UI,Arial,sans-serif}form{background:#fff;border-radius:6px;\
                    box-shadow:0 2px 12px #0002}button{background:#0b5cab;color:#fff}",
            foot: "Authorized use only. Activity on this system is logged.",
        },
        "webmail" => Look {
            server: "Apache/2.4.62 (Debian)",
            title: "Webmail",
            form: ["Welcome to Webmail", "_user", "_pass", "Login"],
            denied: "Login failed.",
            style: "body{background:#2b3a42;font-family:Arial,sans-serif;color:#333}form{background:#f4f4f4}\
                    button{background:#37beff;color:#fff}",
            foot: "Forgotten passwords are reset by your postmaster.",
        },
        "router-admin" => Look {
            server: "lighttpd/1.4.69",
            title: "Router Administration",
            form: ["Router login", "luser", "lpass", "Log in"],
            denied: "Wrong user name or password.",
            style: "body{background:#fff;font-family:Verdana,sans-serif;font-size:13px}form{border:1px solid #888}\
                    button{background:#ddd}",
            foot: "Firmware 2.0.4 build 20231107",
        },
        _ => return None,
    };
    Some(look)
}

/// The site of an application; its title is `title` if there is one.
pub fn app(name: &str, title: Option<&str>) -> Option<HttpSite> {
    let look = look(name)?;
    let title = escape(title.unwrap_or(look.title));
    let [heading, user, password, button] = look.form;
    let page = |note: &str| {
        let (style, foot) = (look.style, look.foot);
        let body = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<style>{style}\n\
             form{{width:20em;margin:6em auto 1em;padding:2em}}input{{width:100%;margin:.3em 0 1em;padding:.5em;\
             box-sizing:border-box}}button{{padding:.6em 1.4em;border:0}}.note{{color:#b00020}}\
             footer{{text-align:center;color:#888;font-size:80%}}</style>\n</head>\n<body>\n\
             <form method=\"post\" action=\"/login\">\n<h2>{title}</h2>\n<p>{heading}</p>\n{note}\
             <label>User name <input name=\"{user}\" autocomplete=\"username\" autofocus></label>\n\
             <label>Password <input type=\"password\" name=\"{password}\" autocomplete=\"current-password\"></label>\n\
             <button type=\"submit\">{button}</button>\n</form>\n<footer>{foot}</footer>\n</body>\n</html>\n"
        );
        Page { content_type: "text/html; charset=utf-8".to_owned(), body: body.into_bytes() }
    };
    let robots = Page { content_type: "text/plain".to_owned(), body: b"User-agent: *\nDisallow: /\n".to_vec() };
    let denied = format!("<p class=\"note\">{}</p>\n", look.denied);
    let pages = BTreeMap::from([
        ("/".to_owned(), page("")),
        ("/login".to_owned(), page("")),
        ("/robots.txt".to_owned(), robots),
        (DENIED.to_owned(), page(&denied)),
    ]);
    Some(HttpSite { server: look.server.to_owned(), pages, denied: DENIED.to_owned() })
}

/// What web servers that call themselves `server` say to a request in clear where they speak TLS; nothing from those
/// that just hang up.
pub fn astray(server: &str) -> Option<Vec<u8>> {
    let page = match server.split(['/', ' ']).next()? {
        // Its error 497.
        "nginx" => format!(
            "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n<body>\r\n\
             <center><h1>400 Bad Request</h1></center>\r\n\
             <center>The plain HTTP request was sent to HTTPS port</center>\r\n\
             <hr><center>{server}</center>\r\n</body>\r\n</html>\r\n"
        ),
        "Apache" => {
            "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n<html><head>\n<title>400 Bad Request</title>\n\
             </head><body>\n<h1>Bad Request</h1>\n\
             <p>Your browser sent a request that this server could not understand.<br />\n\
             Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />\n \
             Instead use the HTTPS scheme to access this URL, please.<br />\n</p>\n</body></html>\n"
                .to_owned()
        }
        _ => return None,
    };
    Some(page.into_bytes())
}

/// `text` as it may stand in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Tells of the credentials of a form (`application/x-www-form-urlencoded`, as the URL standard has it), if it has any.
pub fn form(body: &[u8], tell: &mut dyn FnMut(EventId, &[u8])) {
    let (mut user, mut password) = (None, None);
    for field in body.split(|octet| *octet == b'&').take(32) {
        let (name, value) = match field.iter().position(|octet| *octet == b'=') {
            Some(at) => (decode(&field[..at]), decode(&field[at + 1..])),
            None => continue,
        };
        let name = name.to_ascii_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| name.windows(part.len()).any(|w| w == part.as_bytes()));
        if has(&["pass", "pwd", "psk"]) {
            password.get_or_insert(value);
        } else if has(&["user", "login", "mail", "name", "log"]) {
            user.get_or_insert(value);
        }
    }
    if user.is_some() || password.is_some() {
        Login { method: "form", user: user.as_deref(), password: password.as_deref(), ..Login::default() }.write(tell);
    }
}

/// Tells of the credentials of a header (RFC 7617), if it has any.
pub fn basic(header: &[u8], tell: &mut dyn FnMut(EventId, &[u8])) {
    let scheme = header.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Basic "));
    let Some(pair) = scheme.then(|| base64(&header[6..])).flatten() else { return };
    let at = pair.iter().position(|octet| *octet == b':').unwrap_or(pair.len());
    let (user, password) = (&pair[..at], pair.get(at + 1..).unwrap_or_default());
    Login { method: "Basic", user: Some(user), password: Some(password), ..Login::default() }.write(tell);
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len().min(256));
    let mut rest = text;
    while let [first, after @ ..] = rest
        && octets.len() < 256
    {
        let hex = |octet: &u8| char::from(*octet).to_digit(16).map(|digit| digit as u8);
        rest = after;
        octets.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) if let (Some(high), Some(low)) = (hex(high), hex(low)) => {
                rest = behind;
                high << 4 | low
            }
            (octet, _) => *octet,
        });
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &str) -> String {
        let mut text = String::new();
        form(body.as_bytes(), &mut |_, data| text = String::from_utf8(data.to_vec()).unwrap());
        text
    }

    #[test]
    fn forms_are_read_whatever_their_fields_are_called() {
        assert_eq!(told("_user=a%40b+c&_pass=%zz%3D&x"), r#"{"method":"form","user":"a@b c","password":"%zz="}"#);
        assert_eq!(told("luser=admin&lpass=admin"), r#"{"method":"form","user":"admin","password":"admin"}"#);
        assert_eq!(told("q=1"), "");
        let mut text = String::new();
        basic(b"Basic cm9vdDp0OjE=", &mut |_, data| text = String::from_utf8(data.to_vec()).unwrap());
        assert_eq!(text, r#"{"method":"Basic","user":"root","password":"t:1"}"#);
    }

    #[test]
    fn applications_have_their_title() {
        for name in APPS {
            let site = app(name, Some("A & B")).unwrap();
            let page = String::from_utf8(site.pages["/"].body.clone()).unwrap();
            assert!(page.contains("<title>A &amp; B</title>") && page.contains("type=\"password\""), "{page}");
            assert_ne!(site.pages[DENIED], site.pages["/"]);
        }
        assert!(app("other", None).is_none());
    }
}
