//! Does the store honour conditional puts? Four requests that find out before anything depends on it.

use bytes::Bytes;
use object_store::PutMode;

use crate::class::Class;
use crate::client::Client;
use crate::error::{Error, Result};

/// Where objects lie that only ask something.
pub(crate) const PREFIX: &str = "probe";
/// The one that is put again and again to find out whether a backend is well.
pub(crate) const ALIVE_KEY: &str = "probe/alive";

/// A fresh one.
pub(crate) fn key(client: &Client) -> String {
    format!("{PREFIX}/{}", client.random_id())
}

/// Creates an object twice under a fresh key and looks which of the two stands there.
///
/// It finds a store that ignores conditions. It cannot find one whose check and write are not one step.
///
/// # Errors
/// `Invalid` for a liar, naming the setting that overrides; `Corrupt` if what was stored comes back changed; what the
/// store answered if it cannot be asked.
pub async fn probe(client: &Client) -> Result<()> {
    let key = key(client);
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    let created = client.put_once(&key, first.clone(), PutMode::Create).await;
    if let Err(error) = created
        && error.class() != Class::Ambiguous
    {
        return Err(error);
    }
    let again = client.put_once(&key, second.clone(), PutMode::Create).await;
    let found = client.get(&key).await?;
    client.delete(&key).await?;
    match (again, found) {
        (_, Some(found)) if found == second => {
            Err(liar(client, "a conditional put replaced an existing object"))
        }
        (_, Some(found)) if found != first => {
            Err(Error::corrupt(client.name(), &key, "a probe object came back with other bytes")
                .into_transient())
        }
        (Ok(()), _) => Err(liar(client, "a second conditional put of the same key was accepted")),
        (Err(error), Some(_)) if error.class() == Class::Conflict => Ok(()),
        (Err(error), _) => Err(error),
    }
}

fn liar(client: &Client, what: &str) -> Error {
    let what = format!(
        "the store ignores conditions: {what}, so two writers could overwrite each other; set \
         `single_writer_unchecked = true` only if nobody else will ever write here"
    );
    Error::invalid(client.name(), what)
}
