//! Data sets out: defined lengths, even values, tags in order.

use super::{DataSet, Element, Layout, Tag, VR, Value};

const UNDEFINED: usize = u32::MAX as usize;
const ITEM: Tag = Tag(0xfffe, 0xe000);

/// Writes every element of a data set.
pub(super) fn data_set(out: &mut Vec<u8>, layout: Layout, set: &DataSet) {
    for Element { tag, vr, value } in &set.elements {
        match value {
            Value::Items(items) => {
                let mut sequence = Vec::new();
                for item in items {
                    let mut content = Vec::new();
                    data_set(&mut content, layout, item);
                    header(&mut sequence, layout, ITEM, None, content.len());
                    sequence.extend(content);
                }
                element(out, layout, *tag, VR::SQ, &sequence);
            }
            Value::Bytes(bytes) if layout.is_big() => element(out, layout, *tag, *vr, &swapped(*vr, bytes)),
            Value::Bytes(bytes) => element(out, layout, *tag, *vr, bytes),
            Value::Fragments(bytes) => {
                header(out, layout, *tag, Some(*vr), UNDEFINED);
                out.extend_from_slice(bytes);
            }
            // What was not kept cannot be said; a zero length would say that it is not known.
            Value::PassedOver(_) => {}
        }
    }
}

/// Writes one element whose value is in the byte order of the layout.
pub(super) fn element(out: &mut Vec<u8>, layout: Layout, tag: Tag, vr: VR, value: &[u8]) {
    header(out, layout, tag, Some(vr), value.len().next_multiple_of(2));
    out.extend_from_slice(value);
    if value.len() % 2 == 1 {
        out.push(if matches!(vr, VR::UI | VR::OB | VR::UN | VR::SQ) { 0 } else { b' ' });
    }
}

/// True when an explicit length takes four bytes after two reserved ones (PS3.5 7.1.2).
pub(super) fn is_long(vr: VR) -> bool {
    use VR::*;
    matches!(vr, OB | OD | OF | OL | OV | OW | SQ | SV | UC | UN | UR | UT | UV)
}

/// Numbers turned into the other byte order.
pub(super) fn swapped(vr: VR, value: &[u8]) -> Vec<u8> {
    use VR::*;
    let width = match vr {
        US | SS | OW | AT => 2,
        UL | SL | FL | OF | OL => 4,
        FD | OD | OV | SV | UV => 8,
        _ => return value.to_vec(),
    };
    value.chunks(width).flat_map(|number| number.iter().rev().copied()).collect()
}

fn header(out: &mut Vec<u8>, layout: Layout, tag: Tag, vr: Option<VR>, length: usize) {
    let u16_bytes = |n: u16| if layout.is_big() { n.to_be_bytes() } else { n.to_le_bytes() };
    let u32_bytes = |n: u32| if layout.is_big() { n.to_be_bytes() } else { n.to_le_bytes() };
    out.extend(u16_bytes(tag.0));
    out.extend(u16_bytes(tag.1));
    let long = u32::try_from(length).unwrap_or(u32::MAX);
    match vr.filter(|_| layout.is_explicit()) {
        None => out.extend(u32_bytes(long)),
        Some(vr) => match u16::try_from(length) {
            Ok(short) if !is_long(vr) => {
                out.extend(vr.to_bytes());
                out.extend(u16_bytes(short));
            }
            // A value too long for its representation goes as UN (PS3.5 6.2.2).
            _ => {
                out.extend(if is_long(vr) { vr } else { VR::UN }.to_bytes());
                out.extend([0, 0]);
                out.extend(u32_bytes(long));
            }
        },
    }
}
