//! Fields declared after the fact.

use super::Collection;
use crate::ddl;
use crate::error::Result;
use crate::schema::FieldType;

impl Collection {
    /// Declares another field, durable on return: a typed column that filters know. Rows that are there are null in it
    /// until they are written again; no file is rewritten. A value of that name that such a row has among its undeclared
    /// payload is still given with the row, and filters do not see it.
    ///
    /// # Errors
    /// `Invalid` for a bad or reserved name, or one that there is (case does not tell names apart); `NotFound` once
    /// dropped.
    pub fn add_field(&self, name: &str, field_type: FieldType) -> Result<()> {
        self.add_fields(&[(name, field_type)])
    }

    /// Declares several fields at once, all or none; otherwise as [`Collection::add_field`]. No fields, no change.
    ///
    /// # Errors
    /// As [`Collection::add_field`].
    pub fn add_fields(&self, fields: &[(&str, FieldType)]) -> Result<()> {
        self.check_writable()?;
        self.view()?;
        if fields.is_empty() {
            return Ok(());
        }
        ddl::alter(&self.handle.engine, self.id, |manifest| manifest.add_fields(self.id, fields))?;
        self.handle.uploads.offer(&self.handle.engine);
        Ok(())
    }
}
