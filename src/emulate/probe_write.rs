//! How an answer of a fingerprint is written over its probe.

use super::fingerprint::{
    AckNumber, EchoAnswer, EchoCode, EchoDf, Opt, Quoted, QuotedChecksum, SeqNumber, TcpAnswer, UdpAnswer,
    write_options,
};
use crate::frame::Frame;
use crate::wire::{ETH, Headers, Mac, Packet, Segment, TcpHeader, be16, checksum, proto, src_mac};

/// What an answer needs besides the fingerprint.
#[derive(Clone, Copy, Debug)]
pub struct Speaker {
    /// The host's MAC.
    pub mac: Mac,
    /// IP identification.
    pub ip_id: u16,
    /// Hops that the host seems to be away.
    pub hops: u8,
}

/// Writes `answer` with its options and numbers over the probe. `own` is the host's sequence number, `clock` its timestamp.
pub fn write_tcp(
    frame: &mut Frame,
    packet: &Packet,
    tcp: &TcpHeader,
    answer: &TcpAnswer,
    (options, window): (&[Opt], u16),
    (own, clock): (u32, u32),
    speaker: &Speaker,
) {
    let mut octets = [0; 40];
    let theirs = crate::wire::TcpOptions::parse(&packet.payload(frame.bytes())[20..tcp.len]).timestamps;
    let len = write_options(options.iter().copied(), clock, theirs.map_or(0, |(value, _)| value), &mut octets);
    let headers = Headers {
        dst_mac: src_mac(frame.bytes()),
        src_mac: speaker.mac,
        src: packet.dst(),
        dst: packet.src(),
        proto: proto::TCP,
        ttl: answer.ttl.saturating_sub(speaker.hops).max(1),
        tos: 0,
        ip_id: speaker.ip_id,
        df: answer.df,
    };
    let segment = Segment {
        src: tcp.dst,
        dst: tcp.src,
        seq: match answer.seq {
            SeqNumber::Zero => 0,
            SeqNumber::Ack => tcp.ack,
            SeqNumber::AckPlus => tcp.ack.wrapping_add(1),
            SeqNumber::Own => own,
        },
        ack: match answer.ack {
            AckNumber::Zero => 0,
            AckNumber::Seq => tcp.seq,
            AckNumber::SeqPlus => tcp.seq.wrapping_add(1),
            AckNumber::Other => tcp.seq.wrapping_add(0x1234_5678),
        },
        flags: answer.flags,
        window,
        options: &octets[..len],
        payload: &answer.data,
    };
    let len = segment.write(&headers, frame.space());
    frame.set_len(len);
    if answer.reserved || answer.urgent {
        let l4 = &mut frame.bytes_mut()[headers.len()..];
        if answer.reserved {
            l4[12] |= 8;
        }
        if answer.urgent {
            l4[18..20].copy_from_slice(&[0, 1]);
        }
        headers.fill_checksum(l4);
    }
}

/// Octets of a quotation that is complete.
const WHOLE: usize = 328;

/// Writes the answer to U1 over it; `false` if the buffer is too small.
pub fn write_udp(frame: &mut Frame, packet: &Packet, answer: &UdpAnswer, tos: u8, speaker: &Speaker) -> bool {
    frame.complete();
    let headers = Headers {
        dst_mac: src_mac(frame.bytes()),
        src_mac: speaker.mac,
        src: packet.dst(),
        dst: packet.src(),
        proto: proto::ICMP,
        ttl: answer.ttl.saturating_sub(speaker.hops).max(1),
        tos,
        ip_id: speaker.ip_id,
        df: answer.df,
    };
    let quoted = usize::from(answer.total).saturating_sub(28).max(28);
    let at = headers.len();
    let total = at + 8 + quoted;
    let old = frame.len();
    if frame.capacity() < total.max(old) {
        return false;
    }
    frame.set_len(total.max(old));
    let bytes = frame.bytes_mut();
    let copied = quoted.min(WHOLE).min(old - ETH);
    bytes.copy_within(ETH..ETH + copied, at + 8);
    headers.write(bytes, 8 + quoted);
    let message = &mut bytes[at..total];
    message[8 + copied..].fill(b'C');
    message[..4].copy_from_slice(&[3, 3, 0, 0]);
    message[4..8].copy_from_slice(&answer.unused.to_be_bytes());
    let quotation = &mut message[8..];
    if let Quoted::Value(total) = answer.quoted_total {
        quotation[2..4].copy_from_slice(&total.to_be_bytes());
    }
    if let Quoted::Value(id) = answer.quoted_id {
        quotation[4..6].copy_from_slice(&id.to_be_bytes());
    }
    quotation[8] = quotation[8].saturating_sub(answer.quoted_ttl_less).saturating_sub(speaker.hops);
    quotation[10..12].fill(0);
    let sum = match answer.quoted_checksum {
        QuotedChecksum::Good => checksum::of(&quotation[..20]),
        QuotedChecksum::Zero => 0,
        QuotedChecksum::Wrong => checksum::of(&quotation[..20]) ^ 0x5555,
    };
    quotation[10..12].copy_from_slice(&sum.to_be_bytes());
    if let Quoted::Value(sum) = answer.quoted_udp_checksum {
        quotation[26..28].copy_from_slice(&sum.to_be_bytes());
    }
    if !answer.data_intact
        && let Some(octet) = quotation.get_mut(28)
    {
        *octet = b'c';
    }
    headers.fill_checksum(message);
    frame.set_len(total);
    true
}

/// Turns IE's request into its reply.
pub fn write_echo(frame: &mut Frame, packet: &Packet, answer: &EchoAnswer, speaker: &Speaker) {
    let asked = be16(frame.bytes(), ETH + 6) & 0x4000 != 0;
    let headers = Headers {
        dst_mac: src_mac(frame.bytes()),
        src_mac: speaker.mac,
        src: packet.dst(),
        dst: packet.src(),
        proto: proto::ICMP,
        ttl: answer.ttl.saturating_sub(speaker.hops).max(1),
        tos: frame.bytes()[ETH + 1],
        ip_id: speaker.ip_id,
        df: match answer.df {
            EchoDf::Set => true,
            EchoDf::Clear => false,
            EchoDf::Same => asked,
            EchoDf::Inverse => !asked,
        },
    };
    frame.set_len(packet.end);
    let bytes = frame.bytes_mut();
    let len = packet.end - packet.l4;
    // Options, if there were any, do not go back.
    bytes.copy_within(packet.l4..packet.end, headers.len());
    headers.write(bytes, len);
    let message = &mut bytes[headers.len()..headers.len() + len];
    message[0] = 0;
    message[1] = match answer.code {
        EchoCode::Value(code) => code,
        EchoCode::Same => message[1],
        EchoCode::Other => message[1].wrapping_add(1),
    };
    headers.fill_checksum(message);
    frame.set_len(headers.len() + len);
}
