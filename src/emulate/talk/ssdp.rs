//! SSDP, by which UPnP devices are found (UPnP Device Architecture 1.0 §1.2.2).

/// Port of the group.
pub const PORT: u16 = 1900;

/// The search for a gateway to the Internet, as Windows writes it.
pub const SEARCH: &[u8] = b"M-SEARCH * HTTP/1.1\r\nHost:239.255.255.250:1900\r\n\
ST:urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nMan:\"ssdp:discover\"\r\nMX:3\r\n\r\n";
