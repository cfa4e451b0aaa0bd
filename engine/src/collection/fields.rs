//! Fields declared after the fact, and rows that are to expire by one.

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

    /// Lets rows expire from now on by a declared timestamp, as those of a schema with
    /// [`Schema::expires_by`](crate::Schema::expires_by) do; durable on return. Rows that are there expire by the value they have
    /// there; no file is rewritten. **What has expired by then is hidden at once and soon deleted**:
    /// `count_where("until <= ...")` says beforehand how many rows that is, and a snapshot keeps them. It cannot be taken back,
    /// nor changed to another field. Snapshots of before show what they showed. A write that is under way meanwhile may still
    /// meet the rows as they were.
    ///
    /// # Errors
    /// `Invalid` if there is no such field, it is no timestamp, or rows expire by another one (AKI-0278); `NotFound` once
    /// dropped.
    pub fn expire_by(&self, field: &str) -> Result<()> {
        self.check_writable()?;
        if self.schema()?.expires_by.as_deref() == Some(field) {
            return Ok(());
        }
        ddl::alter(&self.handle.engine, self.id, |manifest| manifest.expire_by(self.id, field))?;
        self.handle.uploads.offer(&self.handle.engine);
        Ok(())
    }
}
