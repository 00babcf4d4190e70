//! Images from elsewhere: members of archives, however compressed, and OCI layouts lead nowhere outside, in bounded
//! memory and time.
#![no_main]

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use arbitrary::Arbitrary;
use honeyweave::container::image::import::{Compression, Content, Layout, Limits, config, layers, members};
use libfuzzer_sys::fuzz_target;

/// A member with a header whose checksum is right, which chance would not find.
#[derive(Arbitrary, Debug)]
struct Made {
    name: Name,
    kind: u8,
    link: Vec<u8>,
    content: Vec<u8>,
    /// The size that the header claims, if not that of the content.
    claimed: Option<u32>,
}

#[derive(Arbitrary, Debug)]
enum Name {
    Any(Vec<u8>),
    Index,
    Layout,
}

#[derive(Arbitrary, Debug)]
enum Input {
    Raw(Vec<u8>),
    Made(Vec<Made>),
}

fn archive(made: &[Made]) -> Vec<u8> {
    let mut archive = Vec::new();
    for Made { name, kind, link, content, claimed } in made {
        let name = match name {
            Name::Any(name) => name.as_slice(),
            Name::Index => b"index.json",
            Name::Layout => b"oci-layout",
        };
        let kind = b"0125xgLK34S"[usize::from(*kind) % 11];
        let mut header = [0u8; 512];
        let put = |header: &mut [u8; 512], at: usize, room: usize, text: &[u8]| {
            let len = text.len().min(room);
            header[at..at + len].copy_from_slice(&text[..len]);
        };
        put(&mut header, 0, 100, name);
        put(&mut header, 100, 8, b"0000644\0");
        put(&mut header, 108, 8, b"0000000\0");
        put(&mut header, 116, 8, b"0000000\0");
        let size = claimed.map_or(content.len() as u64, u64::from);
        put(&mut header, 124, 12, format!("{size:011o}\0").as_bytes());
        put(&mut header, 136, 12, b"00000000000\0");
        header[156] = kind;
        put(&mut header, 157, 100, link);
        put(&mut header, 257, 8, b"ustar  \0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|octet| u32::from(*octet)).sum();
        put(&mut header, 148, 8, format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive
}

fn is_inside(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}

fuzz_target!(|input: Input| {
    let bytes = match &input {
        Input::Raw(bytes) => bytes.clone(),
        Input::Made(made) => archive(made),
    };
    let limits = Limits { octets: 1 << 20, members: 1000 };
    let mut left = limits;
    let mut octets = 0;
    let _ = members(Compression::of(&bytes).reader(&bytes[..]), &mut left, &mut |member, content| {
        assert!(is_inside(&member.path), "{member:?}");
        if let Content::SecondName(target) = &member.content {
            assert!(is_inside(target), "{member:?}");
        }
        let mut buffer = [0; 4096];
        while let Ok(got @ 1..) = content.read(&mut buffer) {
            octets += got as u64;
        }
        Ok(())
    });
    assert!(octets <= limits.octets && left.octets <= limits.octets && left.members <= limits.members);
    let Ok(sealed) = honeyweave::sys::memory::sealed(c"fuzz", &bytes) else { return };
    if let Ok(Some(layout)) = Layout::in_archive(File::from(sealed)) {
        let _ = config(&layout);
        let Ok((layers, _)) = layers(&layout) else { return };
        for layer in layers {
            if let Ok(blob) = layout.blob(&layer) {
                let _ = std::io::copy(&mut blob.take(1 << 20), &mut std::io::sink());
            }
        }
    }
});
