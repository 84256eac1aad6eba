//! Bytes as hexadecimal digits, as digests and keys are written.

/// Two lower-case digits for each byte.
pub fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(super::digits(&[0, 10, 255]), "000aff");
    }
}
