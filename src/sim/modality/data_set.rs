//! Writes a data set in Explicit VR Little Endian (PS3.5 7.1), element by element in the order of their tags.

/// Explicit VR Little Endian.
pub const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// RLE Lossless.
pub const RLE_LOSSLESS: &str = "1.2.840.10008.1.2.5";

/// The longest run that one byte of PackBits can count.
const RUN_MAX: usize = 128;
/// An RLE frame begins with the number of its segments and where each begins (PS3.5 Annex G.5).
const RLE_HEADER: u32 = 64;

/// A data set, or an item, that is being written.
#[derive(Debug, Clone, Default)]
pub struct DataSet(Vec<u8>);

impl DataSet {
    /// An element with a text value, padded to even length. The tag is group and element in one number.
    pub fn text(&mut self, tag: u32, vr: &str, value: &str) {
        let mut value = value.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == "UI" { 0 } else { b' ' });
        }
        self.bytes(tag, vr, &value);
    }

    /// An element of VR US.
    pub fn number(&mut self, tag: u32, value: u16) {
        self.bytes(tag, "US", &value.to_le_bytes());
    }

    /// An element with this value, padded with a zero byte to even length.
    pub fn bytes(&mut self, tag: u32, vr: &str, value: &[u8]) {
        let length = value.len() + value.len() % 2;
        self.head(tag, vr, u32::try_from(length).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len() + value.len() % 2, 0);
    }

    /// A sequence of these items, all of known length.
    pub fn items(&mut self, tag: u32, items: &[DataSet]) {
        let mut value = Vec::new();
        for DataSet(item) in items {
            value.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
            value.extend_from_slice(&u32::try_from(item.len()).unwrap_or(u32::MAX).to_le_bytes());
            value.extend_from_slice(item);
        }
        self.bytes(tag, "SQ", &value);
    }

    /// Pixel Data of one frame of 8 bit in RLE Lossless, in which each row has one shade throughout.
    pub fn run_length_pixels(&mut self, rows: &[u8], columns: usize) {
        let mut segment = Vec::new();
        for shade in rows {
            let mut rest = columns;
            while rest > 0 {
                let run = rest.min(RUN_MAX);
                // 257 - n repeats the next byte n times; 0 copies one byte.
                segment.push(if run == 1 { 0 } else { u8::try_from(257 - run).unwrap_or(u8::MAX) });
                segment.push(*shade);
                rest -= run;
            }
        }
        let mut frame = Vec::new();
        for word in [1, RLE_HEADER].into_iter().chain([0; 14]) {
            frame.extend_from_slice(&word.to_le_bytes());
        }
        frame.extend_from_slice(&segment);
        frame.resize(frame.len() + frame.len() % 2, 0);
        self.head(0x7FE0_0010, "OB", u32::MAX);
        // An empty offset table, the frame, the end.
        self.0.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0x00, 0xE0]);
        self.0.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.0.extend_from_slice(&frame);
        self.0.extend_from_slice(&[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    }

    /// The data set, encoded.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn head(&mut self, tag: u32, vr: &str, length: u32) {
        let (group, element) = ((tag >> 16) as u16, tag as u16);
        self.0.extend_from_slice(&group.to_le_bytes());
        self.0.extend_from_slice(&element.to_le_bytes());
        self.0.extend_from_slice(vr.as_bytes());
        match vr {
            "OB" | "OW" | "SQ" | "UN" | "UT" => {
                self.0.extend_from_slice(&[0, 0]);
                self.0.extend_from_slice(&length.to_le_bytes());
            }
            _ => self.0.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()),
        }
    }
}
