//! Reads a flattened devicetree (Devicetree Specification 0.4, chapter 5): [`Devicetree`] checks the header and gives
//! [`Token`]s, one after the other, without believing any number in the blob. What the kernel wants to know from it is
//! gathered in [`description`](crate::description).

/// The blob makes no sense: cut off, overlong, or no devicetree at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

const MAGIC: u32 = 0xd00d_feed;
/// The version that every devicetree since 2003 is compatible with.
const VERSION: u32 = 17;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 40;

/// The big-endian word at `offset`.
#[inline(never)]
pub fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_be_bytes(*word))
}

/// A number of `cells` words at word `place` of a property. Of more than two words, the lowest two count.
pub fn cells(value: &[u8], place: usize, cells: u32) -> Option<u64> {
    let mut number = 0;
    for cell in 0..cells.min(8) as usize {
        number = number << 32 | u64::from(word(value, 4 * (place + cell))?);
    }
    Some(number)
}

/// The strings of a list of strings.
pub fn strings(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == 0).filter(|string| !string.is_empty())
}

/// How long a blob says it is.
pub fn total_bytes(header: &[u8]) -> Result<usize, Malformed> {
    if word(header, 0) != Some(MAGIC) {
        return Err(Malformed);
    }
    word(header, 4).map(|bytes| bytes as usize).filter(|&bytes| bytes >= HEADER_BYTES).ok_or(Malformed)
}

/// A devicetree whose header makes sense.
#[derive(Clone, Copy, Debug)]
pub struct Devicetree<'a> {
    structure: &'a [u8],
    names: &'a [u8],
    reservations: &'a [u8],
}

/// A piece of the structure block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A node starts; its name with the unit address.
    Begin(&'a [u8]),
    /// A property of the node that started last and hasn't ended: name, value.
    Property(&'a [u8], &'a [u8]),
    /// The node ends.
    End,
}

impl<'a> Devicetree<'a> {
    /// Checks the header.
    pub fn new(blob: &'a [u8]) -> Result<Self, Malformed> {
        let blob = blob.get(..total_bytes(blob)?).ok_or(Malformed)?;
        let field = |offset| word(blob, offset).map(|value| value as usize).ok_or(Malformed);
        let block = |offset: usize, bytes: usize| blob.get(offset..)?.get(..bytes);
        let (version, compatible) = (word(blob, 20), word(blob, 24));
        if version < Some(VERSION) || compatible > Some(VERSION) {
            return Err(Malformed);
        }
        Ok(Devicetree {
            structure: block(field(8)?, field(36)?).ok_or(Malformed)?,
            names: block(field(12)?, field(32)?).ok_or(Malformed)?,
            reservations: blob.get(field(16)?..).ok_or(Malformed)?,
        })
    }

    /// The memory reservation block: pairs of address and size.
    pub fn reservations(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let pairs = self.reservations.chunks_exact(16);
        pairs
            .map(|pair| (cells(pair, 0, 2).unwrap_or(0), cells(pair, 2, 2).unwrap_or(0)))
            .take_while(|&pair| pair != (0, 0))
    }

    /// The structure block from its start.
    pub fn tokens(&self) -> Tokens<'a> {
        Tokens { rest: self.structure, names: self.names, depth: 0 }
    }
}

/// What is left of a structure block.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    rest: &'a [u8],
    names: &'a [u8],
    depth: u32,
}

impl<'a> Tokens<'a> {
    /// The next token; `None` behind the end of the root node. Each takes at least four bytes of the blob, so this
    /// comes to an end.
    pub fn advance(&mut self) -> Result<Option<Token<'a>>, Malformed> {
        loop {
            return match self.word()? {
                1 => {
                    let length = self.rest.iter().position(|&byte| byte == 0).ok_or(Malformed)?;
                    let name = self.take(length + 1)?;
                    self.depth += 1;
                    Ok(Some(Token::Begin(name.get(..length).unwrap_or(name))))
                }
                2 => {
                    self.depth = self.depth.checked_sub(1).ok_or(Malformed)?;
                    Ok(Some(Token::End))
                }
                3 if self.depth > 0 => {
                    let length = self.word()? as usize;
                    let name = self.names.get(self.word()? as usize..).ok_or(Malformed)?;
                    let end = name.iter().position(|&byte| byte == 0).ok_or(Malformed)?;
                    let value = self.take(length)?;
                    Ok(Some(Token::Property(name.get(..end).unwrap_or(name), value)))
                }
                4 => continue,
                9 if self.depth == 0 => Ok(None),
                _ => Err(Malformed),
            };
        }
    }

    fn word(&mut self) -> Result<u32, Malformed> {
        let word = word(self.rest, 0).ok_or(Malformed)?;
        self.rest = self.rest.get(4..).unwrap_or(&[]);
        Ok(word)
    }

    /// `length` bytes, and the padding up to the next word.
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let padded = length.checked_next_multiple_of(4).ok_or(Malformed)?;
        let taken = self.rest.get(..length).ok_or(Malformed)?;
        self.rest = self.rest.get(padded..).ok_or(Malformed)?;
        Ok(taken)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    /// Writes devicetrees for tests.
    #[derive(Default)]
    pub struct Writer {
        structure: Vec<u8>,
        names: Vec<u8>,
    }

    impl Writer {
        fn word(&mut self, word: u32) {
            self.structure.extend(word.to_be_bytes());
        }

        fn bytes(&mut self, bytes: &[u8]) {
            self.structure.extend(bytes);
            while !self.structure.len().is_multiple_of(4) {
                self.structure.push(0);
            }
        }

        pub fn begin(&mut self, name: &str) -> &mut Self {
            self.word(1);
            self.bytes(&[name.as_bytes(), &[0]].concat());
            self
        }

        pub fn property(&mut self, name: &str, value: &[u8]) -> &mut Self {
            self.word(3);
            self.word(u32::try_from(value.len()).unwrap());
            self.word(u32::try_from(self.names.len()).unwrap());
            self.names.extend(name.as_bytes());
            self.names.push(0);
            self.bytes(value);
            self
        }

        pub fn words(&mut self, name: &str, words: &[u32]) -> &mut Self {
            let value: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            self.property(name, &value)
        }

        pub fn end(&mut self) -> &mut Self {
            self.word(2);
            self
        }

        pub fn finish(&mut self) -> Vec<u8> {
            self.word(9);
            let (structure, names) = (self.structure.len(), self.names.len());
            let start = HEADER_BYTES + 32;
            let header = [
                0xd00d_feed,
                start + structure + names,
                start,
                start + structure,
                HEADER_BYTES,
                17,
                16,
                0,
                names,
                structure,
            ];
            let mut blob: Vec<u8> =
                header.iter().flat_map(|&word| u32::try_from(word).unwrap().to_be_bytes()).collect();
            let reservations: [u64; 4] = [0x8000_0000, 0x1000, 0, 0];
            blob.extend(reservations.iter().flat_map(|word| word.to_be_bytes()));
            blob.extend(&self.structure);
            blob.extend(&self.names);
            blob
        }
    }

    fn all(blob: &[u8]) -> Result<usize, Malformed> {
        let mut tokens = Devicetree::new(blob)?.tokens();
        let mut count = 0;
        while tokens.advance()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn sample() -> Vec<u8> {
        let mut writer = Writer::default();
        writer.begin("").words("#address-cells", &[2]).begin("cpus").property("odd", b"xyz\0a").end().end();
        writer.finish()
    }

    #[test]
    fn tokens_come_in_order() {
        let blob = sample();
        let tree = Devicetree::new(&blob).unwrap();
        assert_eq!(tree.reservations().collect::<Vec<_>>(), [(0x8000_0000, 0x1000)]);
        let mut tokens = tree.tokens();
        assert_eq!(tokens.advance(), Ok(Some(Token::Begin(b""))));
        assert_eq!(tokens.advance(), Ok(Some(Token::Property(b"#address-cells", &[0, 0, 0, 2]))));
        assert_eq!(tokens.advance(), Ok(Some(Token::Begin(b"cpus"))));
        assert_eq!(tokens.advance(), Ok(Some(Token::Property(b"odd", b"xyz\0a"))));
        assert_eq!(tokens.advance(), Ok(Some(Token::End)));
        assert_eq!(tokens.advance(), Ok(Some(Token::End)));
        assert_eq!(tokens.advance(), Ok(None));
        assert_eq!(strings(b"xyz\0a").collect::<Vec<_>>(), [&b"xyz"[..], b"a"]);
    }

    #[test]
    fn a_blob_cut_off_anywhere_is_malformed() {
        let blob = sample();
        assert_eq!(all(&blob), Ok(6));
        for length in 0..blob.len() {
            assert_eq!(all(&blob[..length]), Err(Malformed), "{length}");
        }
    }

    #[test]
    fn no_byte_can_make_the_reader_panic_or_run_for_ever() {
        let blob = sample();
        for place in 0..blob.len() {
            for value in [0, 1, 2, 3, 4, 9, 0x7f, 0x80, 0xff] {
                let mut changed = blob.clone();
                changed[place] = value;
                if let Ok(count) = all(&changed) {
                    assert!(count <= changed.len() / 4);
                }
            }
        }
    }

    #[test]
    fn numbers_of_any_width_are_read() {
        let value = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        assert_eq!(cells(&value, 0, 0), Some(0));
        assert_eq!(cells(&value, 1, 1), Some(2));
        assert_eq!(cells(&value, 0, 2), Some(1 << 32 | 2));
        assert_eq!(cells(&value, 0, 3), Some(2 << 32 | 3));
        assert_eq!(cells(&value, 2, 2), None);
    }
}
