//! A handler in Rust: looks whether a file arrived as it was sent.
//!
//!     message    CRC32 PATH: "1c291ca3 /in/photo.jpg"
//!
//! A file that is not there may still come: retried. One that is damaged is parked.
//!
//!     rustc --edition 2021 -O --crate-type cdylib -o verify.so sdk/examples/rust/verify.rs

#[macro_use]
mod sluice;

use sluice::{Handler, Host, Level, Task, Verdict};
use std::{fs, str};

struct Verify {
    table: [u32; 256],
}

impl Handler for Verify {
    fn new(_host: &Host) -> Result<Self, String> {
        Ok(Verify { table: crc32_table() })
    }

    fn handle(&self, task: &Task) -> Verdict {
        let (sum, path) = match parse(task.value()) {
            Some(parsed) => parsed,
            None => return park("bad-message", "the message is not: CRC32 PATH".to_string()),
        };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return Verdict::Retry { after: None, error: format!("{}: {}", path, error) },
        };
        let found = self.crc32(&bytes);
        if found != sum {
            return park("damaged", format!("{}: its CRC32 is {:08x}, not {:08x}", path, found, sum));
        }
        task.host.log(Level::Info, &format!("{}: {} bytes, as they were sent", path, bytes.len()));
        Verdict::Ack
    }
}

impl Verify {
    fn crc32(&self, bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |sum, byte| self.table[((sum ^ *byte as u32) & 0xff) as usize] ^ (sum >> 8))
    }
}

fn crc32_table() -> [u32; 256] {
    let mut table = [0; 256];
    for (byte, entry) in table.iter_mut().enumerate() {
        *entry = (0..8).fold(byte as u32, |sum, _| if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 });
    }
    table
}

fn parse(value: &[u8]) -> Option<(u32, &str)> {
    let (sum, path) = str::from_utf8(value).ok()?.trim_end().split_once(' ')?;
    Some((u32::from_str_radix(sum, 16).ok()?, path))
}

fn park(reason: &str, error: String) -> Verdict {
    Verdict::Park { reason: reason.to_string(), error }
}

sluice_handler!(Verify, "verify", "1.0.0");
