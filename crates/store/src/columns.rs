//! Columns of tables that are not ours, some of which not every version has.

/// The columns that some versions have and others lack, as they are to be asked for.
#[derive(Clone, Debug)]
pub(crate) struct Columns<const N: usize> {
    optional: &'static [(&'static str, &'static str); N],
    /// Each of them, or what stands for it.
    pub(crate) asked: [&'static str; N],
}

impl<const N: usize> Columns<N> {
    /// `optional` are columns with what stands for each where it is missing. Errors: the first of the required that is missing.
    pub(crate) fn choose(
        required: &[&'static str],
        optional: &'static [(&'static str, &'static str); N],
        there: &[String],
    ) -> Result<Self, &'static str> {
        let has = |column: &str| there.iter().any(|name| name == column);
        match required.iter().find(|column| !has(column)) {
            Some(missing) => Err(missing),
            None => Ok(Self { optional, asked: optional.map(|(column, instead)| if has(column) { column } else { instead }) }),
        }
    }

    /// Those that are missing.
    pub(crate) fn lacking(&self) -> Vec<&'static str> {
        let columns = self.optional.iter().zip(self.asked);
        columns.filter(|((column, _), asked)| column != asked).map(|((column, _), _)| *column).collect()
    }
}
