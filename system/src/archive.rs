//! The boot archive: a tar file that the kernel maps, whatever is in it.

use tar_no_std::TarArchiveRef;

/// An archive that has been found whole.
#[derive(Clone, Debug)]
pub struct Archive<'a> {
    tar: TarArchiveRef<'a>,
}

impl<'a> Archive<'a> {
    /// Checks an archive: every header, every size.
    ///
    /// # Errors
    /// None of its own: `None` says that it is truncated or garbled.
    pub fn open(bytes: &'a [u8]) -> Option<Self> {
        // A tar file ends with two blocks of zeros: without them, it ends early.
        let end = bytes.len().checked_sub(1024).and_then(|end| bytes.get(end..))?;
        if end.iter().any(|&byte| byte != 0) {
            return None;
        }
        Some(Archive { tar: TarArchiveRef::new(bytes).ok()? })
    }

    /// The file of this name.
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        self.tar
            .entries()
            .find(|entry| entry.filename().as_str().is_ok_and(|found| found == name))
            .map(|entry| entry.data())
    }
}
