//! Frames out of octets that come as they come (RFC 9113 §4.1).

/// Octets of a frame's head.
const HEAD: usize = 9;
/// The flag of what has nothing behind it: of settings that they are acknowledged, of fields that there are no more.
const ACKNOWLEDGED: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// How large a table for fields is (RFC 9113 §6.5.2).
const TABLE_SIZE: u16 = 1;

/// Which of them it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Headers,
    /// `RST_STREAM`
    Reset,
    Settings,
    /// `PUSH_PROMISE`
    Promise,
    Continuation,
    /// Bodies, and what is of no interest, or unknown.
    Other,
}

/// What a frame's head says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    flags: u8,
    pub(super) stream: u32,
    pub(super) length: usize,
}

impl Frame {
    fn new([a, b, c, kind, flags, d, e, f, g]: [u8; HEAD]) -> Frame {
        let kind = match kind {
            1 => Kind::Headers,
            3 => Kind::Reset,
            super::SETTINGS => Kind::Settings,
            5 => Kind::Promise,
            9 => Kind::Continuation,
            _ => Kind::Other,
        };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        // The first bit is reserved.
        Frame { kind, flags, stream: u32::from_be_bytes([d & 0x7f, e, f, g]), length }
    }

    pub(super) fn is_acknowledged(self) -> bool {
        self.flags & ACKNOWLEDGED != 0
    }

    /// Whether no more of a head follows it.
    pub(super) fn ends_head(self) -> bool {
        self.flags & END_HEADERS != 0
    }

    /// The fields in its payload, without what may be before and behind them; none if that is more than there is.
    pub(super) fn fields(self, payload: &[u8]) -> Option<&[u8]> {
        let (padding, rest) = match self.flags & PADDED {
            0 => (0, payload),
            _ => payload.split_first().map(|(padding, rest)| (usize::from(*padding), rest))?,
        };
        let before = match self.kind {
            Kind::Promise => 4,
            Kind::Headers if self.flags & PRIORITY != 0 => 5,
            _ => 0,
        };
        rest.get(before..rest.len().checked_sub(padding)?)
    }
}

/// The sizes of tables in a payload of settings.
pub(super) fn table_sizes(payload: &[u8]) -> impl Iterator<Item = u32> {
    let settings = payload.as_chunks::<6>().0.iter();
    let settings = settings.map(|[a, b, value @ ..]| (u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value)));
    settings.filter(|(name, _)| *name == TABLE_SIZE).map(|(_, value)| value)
}

/// Collects the frames of one direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    /// The one that has begun, how much of it is to come, and whether that is kept.
    frame: Option<(Frame, usize, bool)>,
    payload: Vec<u8>,
    has_begun: bool,
}

impl Frames {
    /// Takes octets up to the end of a frame's head, or of its payload; how many that were, and the frame, if one has begun, with
    /// whether it is the first.
    pub(super) fn take(&mut self, octets: &[u8]) -> (usize, Option<(Frame, bool)>) {
        if let Some((_, left, is_wanted)) = &mut self.frame {
            let part = octets.get(..*left).unwrap_or(octets);
            *left -= part.len();
            if *is_wanted {
                self.payload.extend_from_slice(part);
            }
            return (part.len(), None);
        }
        let part = octets.get(..HEAD - self.head.len()).unwrap_or(octets);
        self.head.extend_from_slice(part);
        let Ok(head) = <[u8; HEAD]>::try_from(self.head.as_slice()) else { return (part.len(), None) };
        self.head.clear();
        let frame = Frame::new(head);
        self.frame = Some((frame, frame.length, false));
        (part.len(), Some((frame, !std::mem::replace(&mut self.has_begun, true))))
    }

    /// Whether the payload of the frame that has begun is of interest.
    pub(super) fn wants(&mut self, wants: bool) {
        if let Some((_, _, is_wanted)) = &mut self.frame {
            *is_wanted = wants;
        }
    }

    /// The frame, with its payload, once that has come.
    pub(super) fn complete(&mut self) -> Option<(Frame, Vec<u8>)> {
        let (frame, ..) = self.frame.take_if(|(_, left, _)| *left == 0)?;
        Some((frame, std::mem::take(&mut self.payload)))
    }
}
