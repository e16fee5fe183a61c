//! Certificates of servers, made with openssl.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::temp_dir::TempDir;

/// An authority, and a certificate that it has made for a name: `server.pem` with its key `server.key`.
#[derive(Debug)]
pub(crate) struct Certificates {
    directory: TempDir,
}

impl Certificates {
    pub(crate) fn make(name: &str) -> Self {
        let directory = TempDir::new();
        let made = Command::new("sh")
            .args(["-ec", MAKE])
            .env("NAME", name)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("cannot run sh");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        Self { directory }
    }

    pub(crate) fn authority(&self) -> String {
        self.file("ca.pem").display().to_string()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

const MAKE: &str = r#"
    make() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 $1; }
    make '-subj /CN=idemgate-example-ca -keyout ca.key -out ca.pem'
    make "-subj /CN=$NAME -addext subjectAltName=DNS:$NAME -addext basicConstraints=critical,CA:FALSE
        -CA ca.pem -CAkey ca.key -keyout server.key -out server.pem"
"#;
