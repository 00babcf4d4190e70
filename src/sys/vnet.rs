//! The virtio network header that stands before a frame on a TAP or a packet
//! socket (`struct virtio_net_hdr`, in the machine's byte order).

/// Octets of the header.
pub const VNET_HEADER: usize = 10;

/// The checksum at `csum_start + csum_offset` holds the pseudo-header's sum only.
pub const NEEDS_CSUM: u8 = 1;
/// The device has checked the checksum.
pub const DATA_VALID: u8 = 2;

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
    pub fn needs_csum(&self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }
}
