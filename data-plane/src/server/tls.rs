//! The listener's certificate: a PEM chain and its key, read once at start.

use std::{fs, path::Path, sync::Arc};

use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

/// Reads the TLS side of a listener, which offers HTTP/2 and HTTP/1.1, in this order, and TLS 1.2 and 1.3.
///
/// # Errors
/// All that is wrong with the two files. Nothing of the key's content is told.
pub fn read(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>, Vec<String>> {
    let file = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let (chain, private) = match (file(certificates), file(key)) {
        (Ok(chain), Ok(private)) => (chain, private),
        (chain, private) => return Err([chain.err(), private.err()].into_iter().flatten().collect()),
    };
    let named = |path: &Path, problem: String| format!("{}: {problem}", path.display());
    let (chain, private) = match (chain_of(&chain), key_of(&private)) {
        (Ok(chain), Ok(private)) => (chain, private),
        (chain, private) => {
            let problems = [chain.err().map(|it| named(certificates, it)), private.err().map(|it| named(key, it))];
            return Err(problems.into_iter().flatten().collect());
        }
    };
    config(chain, private).map_err(|error| vec![named(key, error.to_string())]).map(Arc::new)
}

fn chain_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if chain.is_empty() => Err("holds no PEM certificate".to_owned()),
        Ok(chain) => Ok(chain),
        Err(_) => Err("is not PEM".to_owned()),
    }
}

fn key_of(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => "holds no PEM private key".to_owned(),
        // The others quote what they stumbled over.
        _ => "is not PEM".to_owned(),
    })
}

fn config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_of_the_two_files_are_told_and_nothing_of_their_content() {
        let directory = tempfile::tempdir().unwrap();
        let one = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let broken = "-----BEGIN PRIVATE KEY-----\nSECRET?\n-----END PRIVATE KEY-----\n";
        let check = |chain: Option<String>, key: Option<String>, expected: &[&str]| {
            let (chain_path, key_path) = (directory.path().join("chain"), directory.path().join("key"));
            for (path, content) in [(&chain_path, chain), (&key_path, key)] {
                match content {
                    Some(content) => fs::write(path, content).unwrap(),
                    None => drop(fs::remove_file(path)),
                }
            }
            let place = format!("{}/", directory.path().display());
            let problems = read(&chain_path, &key_path).err().unwrap_or_default();
            let problems: Vec<_> = problems.iter().map(|problem| problem.replace(&place, "")).collect();
            assert_eq!(problems, expected);
        };
        check(Some(one.cert.pem()), Some(one.signing_key.serialize_pem()), &[]);
        check(
            None,
            None,
            &["chain: No such file or directory (os error 2)", "key: No such file or directory (os error 2)"],
        );
        check(Some(String::new()), Some(broken.to_owned()), &["chain: holds no PEM certificate", "key: is not PEM"]);
        check(Some(one.cert.pem()), Some(one.cert.pem()), &["key: holds no PEM private key"]);
        let mixed = read_mixed_error();
        check(Some(one.cert.pem()), Some(other.signing_key.serialize_pem()), &[&format!("key: {mixed}")]);
    }

    fn read_mixed_error() -> String {
        rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch).to_string()
    }
}
