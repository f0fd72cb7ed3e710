//! The files of the web console, read once, at the start.
//!
//! What is served is what was found then: no path that a client writes ever
//! reaches the file system, and the page and its files are of one build. A new
//! build is served after a restart.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use camino::Utf8Path;

/// How much is read. Oxide's console has some ten MiB; much more is another
/// directory than was meant.
const MAX_BYTES: u64 = 128 << 20;

/// The console.
#[derive(Debug)]
pub struct WebConsole {
    index: WebFile,
    assets: HashMap<String, WebFile>,
}

/// A file, and the same compressed, where it lies beside it.
#[derive(Clone, Debug)]
pub struct WebFile {
    /// What it is.
    pub content_type: &'static str,
    plain: Bytes,
    gzip: Option<Bytes>,
    brotli: Option<Bytes>,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Encoding {
    Gzip,
    Brotli,
}

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum WebConsoleError {
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// There is something in it that leads out of it.
    #[error("{0} leads out of the console's directory")]
    LeadsOut(PathBuf),
    /// It is too large.
    #[error("the console's directory holds more than {MAX_BYTES} bytes")]
    TooLarge,
}

impl Encoding {
    /// As HTTP calls it.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Gzip => "gzip",
            Encoding::Brotli => "br",
        }
    }
}

impl WebFile {
    /// The smallest of its forms that is accepted.
    pub fn best(
        &self,
        accepted: impl Fn(Encoding) -> bool,
    ) -> (Bytes, Option<Encoding>) {
        for (form, encoding) in
            [(&self.brotli, Encoding::Brotli), (&self.gzip, Encoding::Gzip)]
        {
            if let Some(bytes) = form.as_ref().filter(|_| accepted(encoding)) {
                return (bytes.clone(), Some(encoding));
            }
        }
        (self.plain.clone(), None)
    }
}

impl WebConsole {
    /// Reads `index.html` and all that is in `assets`.
    ///
    /// # Errors
    ///
    /// See [`WebConsoleError`].
    pub fn read(dir: &Utf8Path) -> Result<WebConsole, WebConsoleError> {
        let root = dir.as_std_path();
        let root = root.canonicalize().map_err(|error| {
            WebConsoleError::Read(root.to_path_buf(), error)
        })?;
        let mut reader = Reader { root: &root, left: MAX_BYTES };
        let index = reader.file(&root.join("index.html"))?;
        let mut files = HashMap::new();
        reader.walk(&root.join("assets"), "", &mut files)?;
        let compressed = |of: &str, ending: &str| {
            files.get(&format!("{of}{ending}")).cloned()
        };
        let assets = files
            .iter()
            .filter(|(name, _)| !is_compressed(name, &files))
            .map(|(name, bytes)| {
                let file = WebFile {
                    content_type: content_type(name),
                    plain: bytes.clone(),
                    gzip: compressed(name, ".gz"),
                    brotli: compressed(name, ".br"),
                };
                (name.clone(), file)
            })
            .collect();
        let index = WebFile {
            content_type: content_type("index.html"),
            plain: index,
            gzip: reader.if_there(&root.join("index.html.gz"))?,
            brotli: reader.if_there(&root.join("index.html.br"))?,
        };
        Ok(WebConsole { index, assets })
    }

    /// Its page.
    pub fn index(&self) -> &WebFile {
        &self.index
    }

    /// The file of this name in `assets`, as in `js/main-x.js`.
    pub fn asset(&self, name: &str) -> Option<&WebFile> {
        self.assets.get(name)
    }
}

struct Reader<'a> {
    root: &'a Path,
    left: u64,
}

impl Reader<'_> {
    fn walk(
        &mut self,
        dir: &Path,
        prefix: &str,
        files: &mut HashMap<String, Bytes>,
    ) -> Result<(), WebConsoleError> {
        let failed = |e| WebConsoleError::Read(dir.to_path_buf(), e);
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            // No URL of the console has what is no text.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = format!("{prefix}{name}");
            // A link to a directory is not followed: it may lead round.
            if kind.is_dir() {
                self.walk(&entry.path(), &format!("{name}/"), files)?;
            } else {
                files.insert(name, self.file(&entry.path())?);
            }
        }
        Ok(())
    }

    fn if_there(
        &mut self,
        path: &Path,
    ) -> Result<Option<Bytes>, WebConsoleError> {
        if path.exists() { self.file(path).map(Some) } else { Ok(None) }
    }

    fn file(&mut self, path: &Path) -> Result<Bytes, WebConsoleError> {
        let failed = |e| WebConsoleError::Read(path.to_path_buf(), e);
        let real = path.canonicalize().map_err(failed)?;
        let about = std::fs::metadata(&real).map_err(failed)?;
        if !real.starts_with(self.root) || !about.is_file() {
            return Err(WebConsoleError::LeadsOut(path.to_path_buf()));
        }
        self.left = self
            .left
            .checked_sub(about.len())
            .ok_or(WebConsoleError::TooLarge)?;
        Ok(std::fs::read(&real).map_err(failed)?.into())
    }
}

/// Is it another file, compressed?
fn is_compressed(name: &str, files: &HashMap<String, Bytes>) -> bool {
    [".gz", ".br"].iter().any(|ending| {
        name.strip_suffix(ending).is_some_and(|of| files.contains_key(of))
    })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("avif") => "image/avif",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("woff") => "font/woff",
        Some("ttf") => "font/ttf",
        Some("wasm") => "application/wasm",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
