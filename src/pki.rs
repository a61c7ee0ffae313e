//! `cryptorun pki`: an authority and certificates for trials, and a check of real ones.

use crate::roles::{CANNOT_START, fail};
use clap::{Args, Subcommand};
use cryptorun_platform::identity::SpiffeId;
use cryptorun_platform::pki::{Authority, PkiError, Validity};
use cryptorun_platform::tls::{TlsFiles, TlsStore};
use std::path::PathBuf;
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
        /// Folder for ca.pem and ca.key
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
        /// Folder for cert.pem, key.pem and ca.pem
        folder: PathBuf,
        /// For how many days
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=365))]
        days: u64,
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
        PkiVerb::Check { folder } => return check(folder),
    };
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, CANNOT_START),
    }
}

fn init(folder: &std::path::Path, trust_domain: &str, cluster: &str) -> Result<(), PkiError> {
    Authority::new(trust_domain, cluster)?.write(folder)?;
    println!("authority of {cluster} in {}", folder.display());
    Ok(())
}

fn issue(
    authority: &std::path::Path,
    id: &SpiffeId,
    folder: &std::path::Path,
    days: u64,
) -> Result<(), PkiError> {
    let authority = Authority::load(authority)?;
    let leaf = authority.issue(id, Validity::lasting(Duration::from_secs(days * 86_400)))?;
    leaf.write(&authority, folder)?;
    println!("{id} in {}", folder.display());
    Ok(())
}

fn check(folder: &std::path::Path) -> ExitCode {
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
