//! Services of the library: from what was typed to what they pass for.

use super::at::{At, Text};
use super::check::Checker;
use super::raw_services::LibraryKeys;
use crate::service::{Profile, Protocol};

/// Octets that a text may have: more than any product says of itself, and what a datagram bears.
const MAX_TEXT: usize = 255;

/// What a service passes for.
pub fn profile(c: &mut Checker<'_>, protocol: Protocol, wishes: &At<LibraryKeys>) -> Option<Profile> {
    let name = protocol.name();
    let mut sound = true;
    for (key, value) in wishes.present() {
        let known =
            key == "product" || protocol.keys().contains(&key) || (key == "banner" && protocol.banner().is_some());
        if !known {
            let at = c.source.key_before(key, value);
            let message = format!("`{key}` says nothing to `{name}`");
            c.error(at, message, "nothing of this service would show it", "remove it");
            sound = false;
        }
    }
    let texts = [&wishes.product, &wishes.version, &wishes.hostname, &wishes.banner, &wishes.workgroup];
    for text in texts.into_iter().flatten() {
        sound &= is_sound(c, text, std::ptr::eq(text, wishes.banner.as_ref().unwrap_or(text)));
    }
    let communities = wishes.community.as_ref().map(|texts| &texts.value.0);
    for community in communities.into_iter().flatten() {
        sound &= is_sound(c, community, false);
    }
    if let Some(product) = &wishes.product
        && !protocol.takes_any_product()
        && !protocol.products().iter().any(|(known, ..)| *known == &*product.value.0)
    {
        c.unknown(product.span, "product", product, protocol.products().iter().map(|(known, ..)| *known));
        sound = false;
    }
    if !sound {
        return None;
    }
    let mut profile = Profile::new(protocol, wishes.product.as_ref().map(|product| &*product.value.0));
    let wish = |to: &mut String, text: &Option<At<Text>>| {
        if let Some(text) = text {
            *to = text.value.0.clone();
        }
    };
    wish(&mut profile.version, &wishes.version);
    wish(&mut profile.hostname, &wishes.hostname);
    wish(&mut profile.workgroup, &wishes.workgroup);
    profile.banner = wishes.banner.as_ref().map(|banner| banner.value.0.clone());
    if let Some(communities) = communities {
        profile.communities = communities.iter().map(|text| text.value.0.clone()).collect();
    }
    Some(profile)
}

/// Whether a text can stand in a line that is said. Banners may have several.
fn is_sound(c: &mut Checker<'_>, text: &At<Text>, is_banner: bool) -> bool {
    if text.len() > MAX_TEXT {
        let label = format!("{} octets", text.len());
        c.error(text.span, "this text is too long for a service to say", label, "write at most 255 octets");
        return false;
    }
    let allowed = |octet: u8| !octet.is_ascii_control() || (is_banner && matches!(octet, b'\r' | b'\n' | b'\t'));
    if !text.bytes().all(allowed) {
        c.error(text.span, "a service cannot say control characters here", "this text", "remove them");
        return false;
    }
    true
}
