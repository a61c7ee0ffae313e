//! `cryptorun pki`: an authority and certificates for trials, and a check of real ones.

use crate::roles::{CANNOT_START, fail};
use clap::{Args, Subcommand};
use cryptorun_platform::identity::SpiffeId;
use cryptorun_platform::pki::{self, Authority, PkiError, Validity};
use cryptorun_platform::tls::{TlsFiles, TlsStore};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Certificates for trials, and a check of real ones.
#[derive(Clone, Debug, Args)]
pub struct PkiArgs {
    #[command(subcommand)]
    verb: PkiVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum PkiVerb {
    /// Make an authority
    Init {
        /// Folder for ca.pem, ca.key and crl.pem
        folder: PathBuf,
        /// Trust domain in every name
        #[arg(long, default_value = "trial.cryptorun")]
        trust_domain: String,
        /// Cluster in every name
        #[arg(long)]
        cluster: String,
    },
    /// Issue a certificate for a name: spiffe://DOMAIN/cryptorun/CLUSTER/CLASS/REGION/ID
    Issue {
        /// Folder of the authority
        authority: PathBuf,
        /// The name
        id: SpiffeId,
        /// Folder for cert.pem, key.pem and ca.pem; what is there is replaced
        folder: PathBuf,
        /// For how many days
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=365))]
        days: u64,
    },
    /// Make a key and a request for a certificate, so that the key never leaves this machine
    Request {
        /// The name
        id: SpiffeId,
        /// Folder for key.pem and request.pem
        folder: PathBuf,
    },
    /// Answer a request with a certificate, if it asks for exactly this name
    Sign {
        /// Folder of the authority
        authority: PathBuf,
        /// The name
        id: SpiffeId,
        /// The request
        request: PathBuf,
        /// File for the certificate
        cert: PathBuf,
        /// For how many days
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=365))]
        days: u64,
    },
    /// Take a certificate back: put it on the authority's list, crl.pem, which processes read
    Revoke {
        /// Folder of the authority
        authority: PathBuf,
        /// The certificate
        cert: PathBuf,
    },
    /// Check that a certificate, its key and its root fit, and say whose it is
    Check {
        /// Folder with cert.pem, key.pem and ca.pem
        folder: PathBuf,
    },
}

/// Does it; 0, 1 for a certificate that does not hold, 8 for a file that cannot be written.
pub fn run(args: &PkiArgs) -> ExitCode {
    let made = match &args.verb {
        PkiVerb::Init { folder, trust_domain, cluster } => init(folder, trust_domain, cluster),
        PkiVerb::Issue { authority, id, folder, days } => issue(authority, id, folder, *days),
        PkiVerb::Request { id, folder } => request(id, folder),
        PkiVerb::Sign { authority, id, request, cert, days } => {
            sign(authority, id, request, cert, *days)
        }
        PkiVerb::Revoke { authority, cert } => revoke(authority, cert),
        PkiVerb::Check { folder } => return check(folder),
    };
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, CANNOT_START),
    }
}

fn init(folder: &Path, trust_domain: &str, cluster: &str) -> Result<(), PkiError> {
    Authority::new(trust_domain, cluster)?.write(folder)?;
    println!("authority of {cluster} in {}", folder.display());
    Ok(())
}

fn issue(authority: &Path, id: &SpiffeId, folder: &Path, days: u64) -> Result<(), PkiError> {
    let authority = Authority::load(authority)?;
    let leaf = authority.issue(id, lasting(days))?;
    leaf.write(&authority, folder)?;
    println!("{id} in {}", folder.display());
    Ok(())
}

fn request(id: &SpiffeId, folder: &Path) -> Result<(), PkiError> {
    pki::request(id, &[])?.write(folder)?;
    println!("request for {id} in {}", folder.join("request.pem").display());
    Ok(())
}

fn sign(
    authority: &Path,
    id: &SpiffeId,
    request: &Path,
    cert: &Path,
    days: u64,
) -> Result<(), PkiError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| PkiError::File { path, source }
    };
    let asked = std::fs::read_to_string(request).map_err(file(request))?;
    let signed = Authority::load(authority)?.sign(&asked, id, lasting(days))?;
    std::fs::write(cert, signed).map_err(file(cert))?;
    println!("{id} in {}", cert.display());
    Ok(())
}

fn revoke(folder: &Path, cert: &Path) -> Result<(), PkiError> {
    let revoked = Authority::load(folder)?.take_back(folder, cert)?;
    println!("{revoked} on the list in {}", folder.join("crl.pem").display());
    Ok(())
}

fn lasting(days: u64) -> Validity {
    Validity::lasting(Duration::from_secs(days * 86_400))
}

fn check(folder: &Path) -> ExitCode {
    match TlsStore::load(TlsFiles::in_folder(folder)) {
        Ok(store) => {
            let until = cryptorun_core::time::WallTime(store.not_after().saturating_mul(1000));
            println!("{} until {until}", store.id());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}
