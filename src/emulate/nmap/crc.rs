//! CRC-32 (ISO/IEC/IEEE 8802-3 §3.2.9, reflected, as in zlib), by which nmap tells
//! the data of a RST, and the four octets that have a given one: the register
//! takes 32 bits of input reversibly, so there is exactly one answer.

const POLYNOMIAL: u32 = 0xedb8_8320;

/// The CRC-32 of `data`.
pub fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |mut register: u32, byte| {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = (register >> 1) ^ if register & 1 != 0 { POLYNOMIAL } else { 0 };
        }
        register
    })
}

/// Four octets whose CRC-32 is `crc`.
pub fn preimage(crc: u32) -> [u8; 4] {
    let mut register = !crc;
    for _ in 0..32 {
        // The top bit tells whether the polynomial was added on the way here.
        register = if register >> 31 != 0 { ((register ^ POLYNOMIAL) << 1) | 1 } else { register << 1 };
    }
    (!register).to_le_bytes()
}
