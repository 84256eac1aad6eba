//! The code that a telephone reads (QR, ISO/IEC 18004), as large as the display has room for.

use embedded_graphics::prelude::Point;
use qrcodegen::{Mask, QrCode, QrCodeEcc, QrSegment, Version};

/// Pixels of a module at least; smaller ones are not read from a small display.
const MODULE_MIN: u32 = 2;
/// The largest version whose modules have two pixels each on 64: 29 modules. It holds 53 bytes, or 77 characters of
/// capitals and digits.
const VERSION_MAX: u8 = 3;

/// A code.
pub struct Code(QrCode);

impl Code {
    /// The code of a URL; none when that is too long to be read from the display.
    pub fn of(url: &str) -> Option<Code> {
        let url = short(url);
        let segments = QrSegment::make_segments(&url);
        let largest = Version::new(VERSION_MAX);
        let code =
            QrCode::encode_segments_advanced(&segments, QrCodeEcc::Low, Version::MIN, largest, None::<Mask>, true);
        code.ok().map(Code)
    }

    /// Its dark modules on a square of so many pixels, in the middle: where each is, and how large.
    pub fn squares(&self, pixels: u32) -> impl Iterator<Item = (Point, u32)> {
        let modules = self.0.size();
        // The quiet zone is on the panel as well: two modules at least, where there is room for more than two pixels.
        let wide = pixels / (modules.unsigned_abs() + 4);
        let size = wide.max(MODULE_MIN);
        let edge = (pixels as i32 - modules * size as i32) / 2;
        let all = (0..modules).flat_map(move |y| (0..modules).map(move |x| (x, y)));
        all.filter(|(x, y)| self.0.get_module(*x, *y)).map(move |(x, y)| {
            let at = |n: i32| edge + n * size as i32;
            (Point::new(at(x), at(y)), size)
        })
    }
}

/// Scheme and host mean the same in capitals (RFC 3986, 6.2.2.1), which take less room in a code; so does no path.
fn short(url: &str) -> String {
    match url.strip_suffix('/').unwrap_or(url) {
        bare if bare.matches('/').count() == 2 => bare.to_ascii_uppercase(),
        _ => url.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_address_makes_large_modules() {
        let modules = |url: &str| Code::of(url).map(|code| code.0.size());
        assert_eq!(modules("https://10.0.0.5:8443/"), Some(21));
        assert_eq!(modules("https://192.168.100.200:8443"), Some(25));
        assert_eq!(modules("https://[2001:db8:85a3:8d3:1319:8a2e:370:7348]:8443"), Some(29));
        assert_eq!(modules("https://bench-1.lab.hospital.example/setup?code=7H2K-9QWD"), None);
        assert_eq!(short("https://a.example/"), "HTTPS://A.EXAMPLE");
        assert_eq!(short("https://a.example/Path"), "https://a.example/Path");
        for (url, size) in [("https://10.0.0.5:8443/", 2), ("https://[2001:db8:85a3:8d3:1319:8a2e:370:7348]:8443", 2)] {
            let code = Code::of(url).unwrap();
            assert!(code.squares(64).all(|(at, module)| module == size && at.x >= 2 && at.x + size as i32 <= 62));
        }
    }
}
