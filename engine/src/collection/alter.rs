//! Several changes of a collection as one: more fields, rows that are to expire, another name.

use super::Collection;
use crate::ddl;
use crate::error::Result;
use crate::schema::FieldType;

/// Changes of a collection that are made together or not at all, see [`Collection::alter`].
#[derive(Clone, Debug)]
#[must_use = "nothing is changed before `commit`"]
pub struct Alter<'a> {
    rows: &'a Collection,
    fields: Vec<(String, FieldType)>,
    expires_by: Option<String>,
    name: Option<String>,
}

impl Collection {
    /// Begins a change of the collection: more fields as by [`Collection::add_fields`], rows that expire as by
    /// [`Collection::expire_by`], another name as by [`Db::rename_collection`](crate::Db::rename_collection). They become durable
    /// together, in one manifest, whatever happens meanwhile; if one is refused none is made.
    pub fn alter(&self) -> Alter<'_> {
        Alter { rows: self, fields: Vec::new(), expires_by: None, name: None }
    }
}

impl Alter<'_> {
    /// Declares another field.
    pub fn field(mut self, name: impl Into<String>, field_type: FieldType) -> Self {
        self.fields.push((name.into(), field_type));
        self
    }

    /// Lets rows expire by a timestamp, which may be one of the new fields.
    pub fn expires_by(mut self, field: impl Into<String>) -> Self {
        self.expires_by = Some(field.into());
        self
    }

    /// Gives the collection another name.
    pub fn rename(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Makes the changes, durable on return. A name or an expiry that is so already is no change.
    ///
    /// # Errors
    /// As those of the calls named at [`Collection::alter`]: nothing was changed then, but where the fate is unknown.
    pub fn commit(self) -> Result<()> {
        let Self { rows, fields, expires_by, name } = self;
        rows.check_writable()?;
        let (_, state) = rows.view()?;
        let expires_by = expires_by.filter(|field| state.schema.expires_by.as_ref() != Some(field));
        if fields.is_empty()
            && expires_by.is_none()
            && name.as_deref().is_none_or(|name| *name == *state.name)
        {
            return Ok(());
        }
        let fields: Vec<_> = fields.iter().map(|(name, field_type)| (name.as_str(), *field_type)).collect();
        ddl::alter(&rows.handle.engine, rows.id, |manifest| {
            if !fields.is_empty() {
                manifest.add_fields(rows.id, &fields)?;
            }
            if let Some(field) = &expires_by {
                manifest.expire_by(rows.id, field)?;
            }
            name.iter().try_for_each(|name| manifest.rename_collection(rows.id, name))
        })?;
        rows.handle.uploads.offer(&rows.handle.engine);
        Ok(())
    }
}
