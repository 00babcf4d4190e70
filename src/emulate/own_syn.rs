//! The SYN by which a system begins a connection of its own.
//!
//! A system orders the options of its SYN as it orders those of a SYN/ACK to one that offers the same: so p0f's
//! signatures of both kinds say of the same systems. What differs (which options it offers, the window) is here.

use super::Personality;
use super::fingerprint::Opt;
use super::tcp_habits::TcpHabits;

/// What a SYN of a system's own says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnSyn<'a> {
    /// Its options; the values of MSS and scale are the personality's, whatever the entries say.
    pub options: &'a [Opt],
    /// Its window field, never scaled (RFC 7323 §2.2).
    pub window: u16,
}

impl Personality {
    /// The SYN of a connection that the system begins itself, on a stack that can `scale` windows, `sack` and use
    /// `timestamps`: what it cannot is not offered.
    pub fn own_syn(&self, scale: bool, sack: bool, timestamps: bool) -> OwnSyn<'_> {
        let is_windows = self.tcp.keep_alive == TcpHabits::WINDOWS.keep_alive;
        // Windows takes timestamps from those who offer them, and offers none (Tcp1323Opts).
        let timestamps = timestamps && self.ts_hz > 0 && !is_windows;
        let scale = scale && self.window_scale > 0 && self.scales_windows();
        let options = self.syn_ack_options.to(scale, sack && self.permits_sack(), timestamps);
        OwnSyn { options, window: self.own_window(is_windows) }
    }

    /// The window of a SYN, from that of a SYN/ACK.
    fn own_window(&self, is_windows: bool) -> u16 {
        // Linux announces whole segments: beside timestamps, which its SYN/ACK has agreed on, less data fits into one.
        const WITH_TIMESTAMPS: u16 = 1448;
        match self.syn_ack_window {
            // 65160 is what 65535 holds of them, and so is 64240 of the longer.
            65_160 if self.is_linux => 64_240,
            65_535 if is_windows && self.window_scale > 0 => 64_240,
            window if self.is_linux && window % WITH_TIMESTAMPS == 0 => window / WITH_TIMESTAMPS * 1460,
            window => window,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::Builtin;
    use crate::emulate::fingerprint::write_options;

    /// Options and window as p0f writes them, of a system on a stack that can do everything.
    fn signature(system: Builtin) -> (String, u16) {
        let personality = system.get();
        let syn = personality.own_syn(true, true, true);
        let names = syn.options.iter().map(|option| match option {
            Opt::Eol => "eol",
            Opt::Nop => "nop",
            Opt::Mss(_) => "mss",
            Opt::Scale(_) => "ws",
            Opt::Sack => "sok",
            Opt::Timestamps { .. } => "ts",
        });
        let mut octets = [0; 40];
        assert!(write_options(syn.options.iter().copied(), 1, 0, &mut octets).is_multiple_of(4));
        (names.collect::<Vec<_>>().join(","), syn.window)
    }

    /// What p0f.fp has of these systems' SYNs; of Windows 10 and Linux 6, what they were seen to send.
    #[test]
    fn systems_begin_connections_as_p0f_knows_them() {
        for (system, options, window) in [
            (Builtin::Linux, "mss,sok,ts,nop,ws", 64_240),
            (Builtin::Linux26, "mss,sok,ts,nop,ws", 5_840),
            (Builtin::Android, "mss,sok,ts,nop,ws", 65_535),
            (Builtin::Windows, "mss,nop,ws,nop,nop,sok", 64_240),
            (Builtin::Windows7, "mss,nop,ws,nop,nop,sok", 8_192),
            (Builtin::WindowsXp, "mss,nop,nop,sok", 65_535),
            (Builtin::MacOs, "mss,nop,ws,nop,nop,ts,sok,eol,eol", 65_535),
            (Builtin::FreeBsd, "mss,nop,ws,sok,ts", 65_535),
            (Builtin::OpenBsd, "mss,nop,nop,sok,nop,ws,nop,nop,ts", 16_384),
            (Builtin::CiscoIos, "mss", 4_128),
        ] {
            assert_eq!(signature(system), (options.to_owned(), window), "{system:?}");
        }
    }

    #[test]
    fn nothing_is_offered_that_the_stack_cannot_do() {
        let offered = Builtin::Linux.get().own_syn(false, true, false).options;
        assert_eq!(offered, [Opt::Mss(0), Opt::Nop, Opt::Nop, Opt::Sack]);
        assert_eq!(Builtin::FreeBsd.get().own_syn(false, false, false).options, [Opt::Mss(0)]);
    }
}
