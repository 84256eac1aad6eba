//! DER (X.690), as much of it as certificates and requests for them need: elements one behind the other, of definite length.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(super) const CONTEXT_0: u8 = 0xa0;

/// An element of this content.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match content.len() {
        length @ 0..0x80 => der.push(length as u8),
        length => {
            let bytes = length.to_be_bytes();
            let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            der.push(0x80 | digits.len() as u8);
            der.extend_from_slice(digits);
        }
    }
    der.extend_from_slice(content);
    der
}

/// The element that comes first, with its head, and what comes behind it.
pub(super) fn whole(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let behind = next(der)?.2;
    Some((&der[..der.len() - behind.len()], behind))
}

/// What follows this value in an attribute, when the attribute begins with it.
pub(super) fn inside_of<'d>(attribute: &'d [u8], tag: u8, value: &[u8]) -> Option<&'d [u8]> {
    let (found, content, behind) = next(attribute)?;
    (found == tag && content == value).then_some(behind)
}

/// The content of the element that comes first, when it is of this kind.
pub(super) fn inside(tag: u8, der: &[u8]) -> Option<&[u8]> {
    let (found, content, _) = next(der)?;
    (found == tag).then_some(content)
}

/// The first element: tag, content, and what comes behind it (X.690, 8.1; definite lengths, as DER has them).
pub(super) fn next(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let bytes = usize::from(first & 0x7f);
        if bytes == 0 || bytes > 3 || rest.len() < bytes {
            return None;
        }
        let (digits, behind) = rest.split_at(bytes);
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = behind;
    }
    (rest.len() >= length).then(|| (tag, &rest[..length], &rest[length..]))
}
