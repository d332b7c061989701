//! Which rows of a table of events belong to a segment, in SQL.

use std::sync::Arc;

use bellwether_domain::goal::PathPattern;
use bellwether_domain::segment::{DIRECT, Segment};

use super::windows::Shape;

/// So many segments are asked for by one statement: each row is held against all of them.
pub(super) const SEGMENTS_AT_A_TIME: usize = 50;

/// Whether a row belongs to a segment, as [`Segment::contains`] has it; all do without one.
pub(super) fn belongs(shape: &Shape, segment: Option<&Segment>) -> String {
    let Some(Segment { page, source }) = segment else { return "true".to_owned() };
    let mut conditions = Vec::new();
    if let Some(page) = page {
        conditions.push(format!("{} LIKE {}", shape.page, pattern(page)));
    }
    match source.as_deref() {
        Some(source) if source.eq_ignore_ascii_case(DIRECT) => {
            conditions.push(format!("toString({}) IN ('', {})", shape.source, quoted(DIRECT)));
        }
        Some(source) => {
            conditions.push(format!("lower(toString({})) = {}", shape.source, quoted(&source.to_ascii_lowercase())));
        }
        None => {}
    }
    format!("({})", conditions.join(" AND "))
}

/// The numbers of segments by which a statement tells them apart, 0 for all visits, and whether a row belongs to that of number
/// `number`, in SQL.
pub(super) fn numbered(shape: &Shape, number: &str, segments: &[Option<&Arc<Segment>>]) -> (Vec<usize>, String) {
    let mut known: Vec<&Arc<Segment>> = segments.iter().copied().flatten().collect();
    known.sort_unstable();
    known.dedup();
    let number_of = |segment: &Option<&Arc<Segment>>| segment.and_then(|segment| known.binary_search(&segment).ok());
    let numbers = segments.iter().map(|segment| number_of(segment).map_or(0, |place| place + 1)).collect();
    if known.is_empty() {
        return (numbers, "true".to_owned());
    }
    let of =
        |(index, segment): (usize, &&Arc<Segment>)| format!("({number} = {} AND {})", index + 1, belongs(shape, Some(segment)));
    let any = known.iter().enumerate().map(of).collect::<Vec<_>>().join(" OR ");
    (numbers, format!("({number} = 0 OR {any})"))
}

/// Parts of what is asked for, each for one statement: of so many at most, and not of too many segments.
pub(super) fn portions<T>(all: &[T], most: usize, is_of_segment: impl Fn(&T) -> bool) -> Vec<&[T]> {
    let (mut portions, mut rest) = (Vec::new(), all);
    while !rest.is_empty() {
        let mut of_segments = 0;
        let fits = |one: &&T| {
            of_segments += usize::from(is_of_segment(one));
            of_segments <= SEGMENTS_AT_A_TIME
        };
        let (portion, after) = rest.split_at(rest.iter().take(most).take_while(fits).count());
        portions.push(portion);
        rest = after;
    }
    portions
}

/// Paths that match, in SQL.
pub(super) fn pattern(path: &PathPattern) -> String {
    let literal = path.as_str().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    quoted(&literal.replace('*', "%"))
}

/// A text in SQL.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_about_so_many_and_not_about_too_many_segments() {
        let all: Vec<usize> = (0..300).collect();
        let lengths = |is_of_segment: fn(&usize) -> bool| {
            portions(&all, 200, is_of_segment).into_iter().map(<[usize]>::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(|_| false), [200, 100]);
        assert_eq!(lengths(|_| true), [50; 6]);
        assert_eq!(lengths(|one| *one >= 270), [200, 100]);
        assert_eq!(lengths(|one| one % 2 == 0), [100; 3]);
    }
}
