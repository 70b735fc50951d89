//! The keys of the audit log. The current one is derived from the master key. `keys rewrap` stores the one before, encrypted with the new
//! master key, so that the seals that it made can still be verified.

use access::{Error, Result};
use audit::{AuditKey, AuditKeys};
use store::{Executor, Tx};

use super::{KeyError, MasterKey};

/// Returns the keys that verify the seals of the audit log.
///
/// # Errors
///
/// Returns [`KeyError::Decryption`] if a stored key is encrypted with another master key.
pub async fn audit_keys(on: impl Executor<'_>, master: &MasterKey) -> Result<AuditKeys, KeyError> {
    let mut keys = vec![master.audit_key().clone()];
    for (key_id, encrypted) in list(on).await? {
        keys.push(decrypt(master, &key_id, &encrypted)?);
    }
    Ok(AuditKeys::new(keys))
}

/// Encrypts the keys of the audit log with `new`, among them the one that is derived from `old`.
pub(super) async fn rewrap(tx: &mut Tx, old: &MasterKey, new: &MasterKey) -> Result<(), KeyError> {
    let mut keys = vec![old.audit_key().clone()];
    for (key_id, encrypted) in list(&mut *tx).await? {
        match decrypt(new, &key_id, &encrypted) {
            Ok(_) => {}
            Err(_) => keys.push(decrypt(old, &key_id, &encrypted)?),
        }
    }
    for key in keys.iter().filter(|key| key.id() != new.audit_key().id()) {
        let encrypted = new.encrypt(key.id(), &key.to_bytes())?;
        let query = tx.query(
            "INSERT INTO audit_keys (key_id, encrypted_key) VALUES ($1, $2)
             ON CONFLICT (key_id) DO UPDATE SET encrypted_key = excluded.encrypted_key",
        );
        query.bind(key.id()).bind(encrypted).execute().await?;
    }
    Ok(())
}

async fn list(on: impl Executor<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    Ok(on.query("SELECT key_id, encrypted_key FROM audit_keys ORDER BY key_id").all().await?)
}

fn decrypt(master: &MasterKey, key_id: &str, encrypted: &[u8]) -> Result<AuditKey, KeyError> {
    let bytes = master.decrypt(key_id, encrypted)?;
    let bytes = bytes.try_into().map_err(|_| Error::internal("a key of the audit log has another length"))?;
    Ok(AuditKey::from_bytes(bytes))
}
