//! Buffers that are used again.

use super::{Frame, HEAD, HEADROOM, TAIL};

/// Free buffers of both sizes, and a limit on how many exist at once.
///
/// The last buffer put back is the first taken, so that it is still in cache.
/// `None` from a taking call means the limit is reached: the caller counts the
/// frame as discarded for want of a buffer.
pub struct Pool {
    heads: Vec<Frame>,
    tails: Vec<Frame>,
    heads_out: usize,
    tails_out: usize,
    limit: usize,
}

/// Super-frames that may exist at once: 64 KiB each.
const TAIL_LIMIT: usize = 512;

impl Pool {
    /// A pool that lets at most `limit` head buffers exist at once; they are
    /// allocated when first needed.
    pub fn new(limit: usize) -> Pool {
        Pool { heads: Vec::with_capacity(limit.min(4096)), tails: Vec::new(), heads_out: 0, tails_out: 0, limit }
    }

    /// An empty head frame.
    #[inline]
    pub fn head(&mut self) -> Option<Frame> {
        if self.heads_out >= self.limit {
            return None;
        }
        self.heads_out += 1;
        Some(self.heads.pop().unwrap_or_else(Frame::allocate::<HEAD>))
    }

    /// An empty tail frame, for more than [`super::HEAD_FRAME`] octets.
    pub fn tail(&mut self) -> Option<Frame> {
        if self.tails_out >= TAIL_LIMIT {
            return None;
        }
        self.tails_out += 1;
        Some(self.tails.pop().unwrap_or_else(Frame::allocate::<TAIL>))
    }

    /// A frame of the size that fits, holding a copy of `bytes`.
    #[inline]
    pub fn copy_of(&mut self, bytes: &[u8]) -> Option<Frame> {
        if bytes.len() > TAIL - HEADROOM {
            return None;
        }
        let mut frame = if bytes.len() <= HEAD - HEADROOM { self.head()? } else { self.tail()? };
        frame.space()[..bytes.len()].copy_from_slice(bytes);
        frame.set_len(bytes.len());
        Some(frame)
    }

    /// A copy of `frame` with its meta data.
    #[inline]
    pub fn duplicate(&mut self, frame: &Frame) -> Option<Frame> {
        let mut copy = self.copy_of(frame.bytes())?;
        copy.meta = frame.meta;
        Some(copy)
    }

    /// Takes a frame back.
    #[inline]
    pub fn put(&mut self, mut frame: Frame) {
        frame.reset();
        if frame.space.len() == HEAD {
            self.heads_out = self.heads_out.saturating_sub(1);
            self.heads.push(frame);
        } else {
            self.tails_out = self.tails_out.saturating_sub(1);
            self.tails.push(frame);
        }
    }

    /// Counts anew what is on its way, after some were dropped instead of put
    /// back: `frames`, and `held` heads that nobody can look at.
    pub fn recount<'f>(&mut self, frames: impl Iterator<Item = &'f Frame>, held: usize) {
        (self.heads_out, self.tails_out) = (held, 0);
        for frame in frames {
            if frame.space.len() == HEAD {
                self.heads_out += 1;
            } else {
                self.tails_out += 1;
            }
        }
    }

    /// A frame leaves for another pool, where it will be [`Pool::adopt`]ed.
    #[inline]
    pub fn part_with(&mut self, frame: &Frame) {
        let out = if frame.space.len() == HEAD { &mut self.heads_out } else { &mut self.tails_out };
        *out = out.saturating_sub(1);
    }

    /// A frame of another pool is this one's from now on, even above the limit.
    #[inline]
    pub fn adopt(&mut self, frame: &Frame) {
        *(if frame.space.len() == HEAD { &mut self.heads_out } else { &mut self.tails_out }) += 1;
    }

    /// A free buffer of `frame`'s size, for another pool; `None` if there is none.
    pub fn spare_like(&mut self, frame: &Frame) -> Option<Frame> {
        if frame.space.len() == HEAD { self.heads.pop() } else { self.tails.pop() }
    }

    /// Head buffers that are on their way at the moment.
    pub fn in_use(&self) -> usize {
        self.heads_out + self.tails_out
    }
}
