//! Whatever is given.
