//! Ten thousand data sets that were damaged on their way: none breaks the reader, and none makes it hold more than it may.

use crate::{corpus, documents};
use afferent::message::ODDITIES_MAX;
use afferent::message::dicom::rewrite::{Changes, Extent, Profile, Rule, rewrite};
use afferent::message::dicom::{
    DEPTH_MAX, DataSet, ELEMENTS_MAX, HEAD_BYTES_MAX, Layout, Value, measurement_report, read_head,
};

const COUNT: usize = 10_000;
const SEED: u64 = 0x5eed_d1c0;
/// Of larger objects the start is damaged: that is where their data set is.
const BYTES_MAX: usize = 1 << 15;
const SYNTAXES: [(&str, Option<Layout>); 5] = [
    ("1.2.840.10008.1.2", Some(Layout::ImplicitLittle)),
    ("1.2.840.10008.1.2.1", Some(Layout::ExplicitLittle)),
    ("1.2.840.10008.1.2.2", Some(Layout::ExplicitBig)),
    ("1.2.840.10008.1.2.1.99", None),
    ("", Some(Layout::ImplicitLittle)),
];

/// Numbers from a fixed seed (Marsaglia's xorshift).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

/// The data sets that are damaged: structured reports of ours in every syntax, and the objects of the corpus.
fn whole() -> Vec<(String, Vec<u8>)> {
    let trees = [documents::echo(), documents::vascular(), documents::obstetric(), documents::lesion()];
    let mut all = Vec::new();
    for (syntax, layout) in SYNTAXES {
        for tree in &trees {
            let bytes = match layout {
                Some(layout) => tree.write(layout),
                None => miniz_oxide::deflate::compress_to_vec(&tree.write(Layout::ExplicitLittle), 6),
            };
            all.push((syntax.to_string(), bytes));
        }
    }
    for path in corpus::folder("dicom/objects").into_iter().flat_map(|f| std::fs::read_dir(f).unwrap()) {
        let mut bytes = std::fs::read(path.unwrap().path()).unwrap();
        bytes.truncate(BYTES_MAX);
        all.push((String::new(), bytes));
    }
    all
}

fn damage(bytes: &mut Vec<u8>, draw: &mut Draw) {
    for _ in 0..1 + draw.below(6) {
        let at = draw.below(bytes.len());
        let end = (at + 1 + draw.below(40)).min(bytes.len());
        match draw.below(8) {
            0 => bytes[at] = draw.below(256) as u8,
            1 => bytes[at] ^= 1 << draw.below(8),
            // A length of everything there could be, or of nothing.
            2 => bytes[at..end.min(at + 4)].fill(0xff),
            3 => bytes[at..end.min(at + 4)].fill(0),
            4 => drop(bytes.drain(at..end)),
            5 => bytes.truncate(at.max(1)),
            6 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece.repeat(1 + draw.below(200)));
            }
            _ => {
                let delimiter =
                    [[0xfe, 0xff, 0x00, 0xe0], [0xfe, 0xff, 0x0d, 0xe0], [0xfe, 0xff, 0xdd, 0xe0]][draw.below(3)];
                bytes.splice(at..at, delimiter.into_iter().chain([0xff; 4]));
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

/// Elements, bytes of values and depth of what is held.
fn held(set: &DataSet) -> (usize, usize, usize) {
    let mut sum = (set.elements().len(), 0, 0);
    for element in set.elements() {
        match &element.value {
            Value::Items(items) => {
                for item in items {
                    let (elements, bytes, depth) = held(item);
                    sum = (sum.0 + elements, sum.1 + bytes, sum.2.max(depth + 1));
                }
            }
            Value::Bytes(bytes) | Value::Fragments(bytes) => sum.1 += bytes.len(),
            Value::PassedOver(_) => {}
        }
    }
    sum
}

#[test]
fn i10_ten_thousand_damaged_data_sets_are_read_within_bounds() {
    println!("seed {SEED:#x}");
    let mut draw = Draw(SEED);
    let whole = whole();
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let rule = Rule { tag: "0008,0080".into(), remove: true, ..Rule::default() };
    let coerce = Changes { deidentify: None, coerce: vec![rule] };
    let (mut read, mut rewritten) = (0, 0);
    for _ in 0..COUNT {
        let (syntax, bytes) = &whole[draw.below(whole.len())];
        let mut bytes = bytes.clone();
        damage(&mut bytes, &mut draw);
        let head = read_head(&bytes[..], syntax);
        let (elements, kept, depth) = held(&head.data_set);
        assert!(elements <= ELEMENTS_MAX && kept <= HEAD_BYTES_MAX && depth <= DEPTH_MAX);
        assert!(head.oddities.len() <= ODDITIES_MAX && head.ended_at <= HEAD_BYTES_MAX + (1 << 32));
        read += usize::from(elements > 0);
        measurement_report(&head.data_set);
        let class = head.data_set.uid(afferent::message::dicom::tags::SOP_CLASS_UID);
        for changes in [&basic, &coerce] {
            if let Ok(changed) = rewrite(std::io::Cursor::new(&bytes), &class, syntax, changes, b"key", Extent::LARGEST)
            {
                // What was changed once can be read again.
                read_head(&changed.head[..], syntax);
                assert!(changed.resume_at <= changed.end_at && changed.end_at <= bytes.len() as u64);
                rewritten += 1;
            }
        }
    }
    assert!(read > COUNT / 2 && rewritten > COUNT / 20, "{read} read, {rewritten} rewritten: nothing was tested");
}
