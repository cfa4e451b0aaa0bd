//! stub
pub(crate) enum Op {
    Upsert,
    Delete,
}
pub(crate) struct Vector<'a>(&'a [u8]);
impl<'a> Vector<'a> {
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        Vec::new()
    }
}
impl<'a> From<&'a [f32]> for Vector<'a> {
    fn from(_: &'a [f32]) -> Self {
        Self(&[])
    }
}
pub(crate) struct Record<'a> {
    pub op: Op,
    pub collection: u32,
    pub schema: u16,
    pub key: &'a [u8],
    pub payload: &'a str,
    pub vector: Vector<'a>,
}
impl<'a> Record<'a> {
    pub(crate) fn new(schema: u16) -> Self {
        Self { op: Op::Upsert, collection: 0, schema, key: &[], payload: "", vector: Vector(&[]) }
    }
    pub(crate) fn encode_into(&self, _: &mut Vec<u8>) {}
    pub(crate) fn decode(_: &'a [u8]) -> Result<Self, std::fmt::Error> {
        Err(std::fmt::Error)
    }
}
