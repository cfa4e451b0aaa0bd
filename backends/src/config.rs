//! What an operator says about one backend.

use std::fmt;

use serde::Deserialize;

mod breaker;

pub use breaker::BreakerSettings;

/// A secret: readable by code, never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Settings of one backend.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackendConfig {
    /// The name in messages, metrics and `uploads/<name>.json`: letters, digits, `-` and `_`.
    pub name: String,
    /// Where: `s3://bucket/prefix` (`minio://` means the same), `file:///path`, or a path.
    pub url: String,
    /// S3: the server, as `https://host:port`. Without it, AWS.
    pub endpoint: Option<String>,
    /// S3: the region. Default `us-east-1`, which servers other than AWS accept.
    pub region: Option<String>,
    /// S3: the access key. Without it, the usual `AWS_*` variables.
    pub access_key: Option<String>,
    /// S3: its secret.
    pub secret_key: Option<Secret>,
    /// S3: allow an endpoint without TLS. Loopback endpoints need no permission.
    pub allow_http: bool,
    /// Whether `Durability::Remote` and the eviction of local bytes wait for this backend. Default yes.
    pub required: bool,
    /// Attempts of one call before the whole plan waits. Default 3.
    pub attempts: u32,
    /// Trust that nobody else writes here, and use a store that ignores conditional puts. Default no: such a
    /// store cannot tell two writers apart.
    pub single_writer_unchecked: bool,
    /// Whether the breakers may refuse calls. Default yes.
    pub circuit_breaker_enabled: bool,
    /// The breakers' settings.
    pub circuit_breaker_config: BreakerSettings,
}

impl Default for BackendConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            allow_http: false,
            required: true,
            attempts: 3,
            single_writer_unchecked: false,
            circuit_breaker_enabled: true,
            circuit_breaker_config: BreakerSettings::default(),
        }
    }
}

impl BackendConfig {
    /// Settings for a place, with every default.
    #[must_use]
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self { name: name.into(), url: url.into(), ..Self::default() }
    }
}

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let config =
            BackendConfig { secret_key: Some(Secret::new("hunter2")), ..BackendConfig::new("a", "s3://b") };
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(format!("{config:?}").contains("redacted"));
    }

    #[test]
    fn settings_are_read_with_their_defaults_and_unknown_keys_are_refused() {
        let config: BackendConfig =
            serde_json::from_str(r#"{"name":"m","url":"s3://b/p","secret_key":"x"}"#).unwrap();
        assert_eq!(config.attempts, 3);
        assert!(config.required);
        assert_eq!(config.secret_key.unwrap().reveal(), "x");
        assert!(serde_json::from_str::<BackendConfig>(r#"{"nmae":"m"}"#).is_err());
    }
}
