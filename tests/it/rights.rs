//! What a process can still do after it has given up its rights.
