//! Scans of nmap.
