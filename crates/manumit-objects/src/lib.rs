//! Named bytes, in a folder or in an S3-compatible object store: what copies of checkpoints and of the archive are kept as.
//!
//! An object is written whole or not at all, and replaced whole. Nothing here tries again: who writes decides how long that
//! may take.
//!
//! # Source
//! Amazon S3 API reference: PutObject, GetObject, ListObjectsV2, DeleteObject; AWS Signature Version 4 in the query.

use std::path::{Path, PathBuf};

mod folder;
mod s3;

use s3::S3;

/// Where objects are.
pub struct Objects {
    place: Place,
    /// As it was given, for people.
    name: String,
}

enum Place {
    Folder(PathBuf),
    S3(Box<S3>),
}

/// Why an object cannot be had or kept.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {why}")]
pub struct ObjectError {
    /// The object or the store.
    pub place: String,
    /// What is wrong, and the mend where there is one.
    pub why: String,
    /// Trying again may help.
    pub may_pass: bool,
}

impl ObjectError {
    fn lasting(place: &str, why: impl Into<String>) -> ObjectError {
        ObjectError { place: place.into(), why: why.into(), may_pass: false }
    }
}

impl Objects {
    /// `s3://BUCKET/PREFIX`, or a folder. Of a bucket the environment tells the rest, by the names that the programs of AWS use:
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`,
    /// `AWS_CA_BUNDLE`.
    ///
    /// # Errors
    /// When the address or the environment does not do, with what to write.
    pub fn open(place: &str) -> Result<Objects, ObjectError> {
        let inner = match place.split_once("://") {
            Some(("s3", rest)) => Place::S3(Box::new(S3::open(place, rest)?)),
            Some(("file", path)) => Place::Folder(path.into()),
            Some((other, _)) => {
                let why = format!("`{other}://` is not known; write s3://BUCKET/PREFIX, or a folder");
                return Err(ObjectError::lasting(place, why));
            }
            None => Place::Folder(place.into()),
        };
        Ok(Objects { place: inner, name: place.trim_end_matches('/').into() })
    }

    /// What people know the object by.
    pub fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.name)
    }

    /// Writes an object, or replaces it.
    ///
    /// # Errors
    /// When it is not there for good.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<(), ObjectError> {
        match &self.place {
            Place::Folder(folder) => folder::put(folder, key, &mut &*bytes, true).map(drop),
            Place::S3(s3) => s3.put(key, bytes),
        }
        .map_err(|fault| self.named(key, fault))
    }

    /// Writes an object; false, and nothing is changed, when there is one.
    ///
    /// # Errors
    /// When it is not there for good.
    pub fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool, ObjectError> {
        match &self.place {
            Place::Folder(folder) => folder::put(folder, key, &mut &*bytes, false),
            Place::S3(s3) => s3.put_new(key, || Ok(bytes)),
        }
        .map_err(|fault| self.named(key, fault))
    }

    /// Writes a file as an object; false, and nothing is changed, when there is one.
    ///
    /// # Errors
    /// When it is not there for good, or the file cannot be read: that one does not pass.
    pub fn put_new_file(&self, key: &str, path: &Path) -> Result<bool, ObjectError> {
        let unreadable =
            |error: std::io::Error| ObjectError::lasting(&path.display().to_string(), error.to_string());
        let mut file = std::fs::File::open(path).map_err(unreadable)?;
        match &self.place {
            Place::Folder(folder) => folder::put(folder, key, &mut file, false),
            Place::S3(s3) => s3.put_new(key, || Ok(std::fs::File::open(path)?)),
        }
        .map_err(|fault| self.named(key, fault))
    }

    /// The bytes of an object; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, ObjectError> {
        let mut bytes = Vec::new();
        Ok(self.read(key, &mut bytes)?.then_some(bytes))
    }

    /// Writes an object's bytes to `to`; false when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or not be written.
    pub fn read(&self, key: &str, to: &mut impl std::io::Write) -> Result<bool, ObjectError> {
        match &self.place {
            Place::Folder(folder) => folder::read(folder, key, to),
            Place::S3(s3) => s3.read(key, to),
        }
        .map_err(|fault| self.named(key, fault))
    }

    /// Keys that begin with `prefix`, ascending, with their sizes.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        let mut keys = match &self.place {
            Place::Folder(folder) => folder::list(folder, prefix),
            Place::S3(s3) => s3.list(prefix),
        }
        .map_err(|fault| self.named(prefix, fault))?;
        keys.sort();
        Ok(keys)
    }

    /// Deletes an object; it is no fault when there is none.
    ///
    /// # Errors
    /// When it is still there.
    pub fn delete(&self, key: &str) -> Result<(), ObjectError> {
        match &self.place {
            Place::Folder(folder) => folder::delete(folder, key),
            Place::S3(s3) => s3.delete(key),
        }
        .map_err(|fault| self.named(key, fault))
    }

    fn named(&self, key: &str, fault: Fault) -> ObjectError {
        ObjectError { place: self.name(key), why: fault.why, may_pass: fault.may_pass }
    }
}

/// What went wrong with an object whose name the caller knows.
struct Fault {
    why: String,
    may_pass: bool,
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        // A disk that is full may be cleared, a share come back.
        Fault { why: error.to_string(), may_pass: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_a_folder_are_replaced_whole_and_listed_in_order() -> Result<(), Box<dyn std::error::Error>>
    {
        let folder = tempfile::tempdir()?;
        let objects = Objects::open(&folder.path().join("copies").display().to_string())?;
        assert_eq!(objects.list("")?, []);
        assert_eq!(objects.get("a/none")?, None);
        objects.put("b", b"1")?;
        objects.put("a/2", b"22")?;
        objects.put("a/1", b"first")?;
        objects.put("a/1", b"second")?;
        assert!(!objects.put_new("a/1", b"third")?);
        let file = folder.path().join("file");
        std::fs::write(&file, b"of a file")?;
        assert!(objects.put_new_file("a/3", &file)?);
        assert!(!objects.put_new_file("a/3", &file)?);
        let sizes = |keys: &[(&str, u64)]| keys.iter().map(|(k, n)| (k.to_string(), *n)).collect::<Vec<_>>();
        assert_eq!(objects.list("a/")?, sizes(&[("a/1", 6), ("a/2", 2), ("a/3", 9)]));
        assert_eq!(objects.list("")?.len(), 4);
        assert_eq!(objects.get("a/1")?.as_deref(), Some(&b"second"[..]));
        assert_eq!(objects.get("a/3")?.as_deref(), Some(&b"of a file"[..]));
        objects.delete("a/1")?;
        objects.delete("a/1")?;
        assert_eq!(objects.list("a/")?.len(), 2);
        Ok(())
    }

    #[test]
    fn a_key_never_leads_out_of_its_folder() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let objects = Objects::open(&folder.path().join("copies").display().to_string())?;
        for key in ["../out", "a/../../out", "/etc/out", "a//b", ""] {
            assert!(objects.put(key, b"x").is_err_and(|fault| !fault.may_pass), "{key}");
        }
        assert!(!folder.path().join("out").exists());
        Ok(())
    }

    #[test]
    fn an_address_that_is_not_known_is_refused_with_what_to_write() {
        let words = |place: &str| Objects::open(place).err().map_or(String::new(), |fault| fault.to_string());
        assert!(words("gs://bucket/x").contains("s3://BUCKET/PREFIX"));
        assert!(words("s3:///x").contains("names no bucket"));
    }
}
