//! The virtio network header that stands before a frame on a TAP or a packet
//! socket (`struct virtio_net_hdr`, in the machine's byte order).

/// Octets of the header.
pub const VNET_HEADER: usize = 10;

/// The checksum at `csum_start + csum_offset` holds the pseudo-header's sum only.
pub const NEEDS_CSUM: u8 = 1;
/// The device has checked the checksum.
pub const DATA_VALID: u8 = 2;

/// A TCP super-frame over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// A TCP super-frame over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// A UDP super-frame, each of whose segments is a datagram of its own.
pub const GSO_UDP_L4: u8 = 5;
/// Added to the type of a TCP super-frame: only its first segment bears CWR (RFC 3168 §6.1.2).
pub const GSO_ECN: u8 = 0x80;

/// What a header says of its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VnetHeader {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// `VIRTIO_NET_HDR_GSO_*`; 0 for a frame that is no super-frame.
    pub gso_type: u8,
    /// Octets of headers, a hint only.
    pub hdr_len: u16,
    /// Octets of payload in each segment.
    pub gso_size: u16,
    /// Where the checksum's range begins, from the start of the frame.
    pub csum_start: u16,
    /// Where the checksum lies, from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// The header of a frame that is complete: a wire could carry it as it is.
    pub const PLAIN: VnetHeader =
        VnetHeader { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

    /// Writes the header.
    pub fn to_bytes(self) -> [u8; VNET_HEADER] {
        let half = u16::to_ne_bytes;
        let (hdr_len, gso_size) = (half(self.hdr_len), half(self.gso_size));
        let (start, offset) = (half(self.csum_start), half(self.csum_offset));
        [
            self.flags,
            self.gso_type,
            hdr_len[0],
            hdr_len[1],
            gso_size[0],
            gso_size[1],
            start[0],
            start[1],
            offset[0],
            offset[1],
        ]
    }

    /// Reads a header.
    pub fn from_bytes(bytes: &[u8; VNET_HEADER]) -> VnetHeader {
        let half = |i: usize| u16::from_ne_bytes([bytes[i], bytes[i + 1]]);
        VnetHeader {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: half(2),
            gso_size: half(4),
            csum_start: half(6),
            csum_offset: half(8),
        }
    }

    /// Whether [`NEEDS_CSUM`] is set.
    #[inline]
    pub fn needs_csum(&self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }

    /// Whether the frame is a super-frame.
    #[inline]
    pub fn is_gso(&self) -> bool {
        self.gso_type != 0
    }
}
