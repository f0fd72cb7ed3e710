//! Aligned columns, without lines: to be read, and to be searched by `grep`.

use std::fmt;

/// Rows under a header. The last column may be as wide as it likes.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table that has its header alone.
    pub(crate) fn new(header: &[&str]) -> Table {
        let header = header.iter().map(|title| (*title).to_string());
        Table { rows: vec![header.collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            writeln!(f, "  {}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["ID", "NAME", "WHY"]);
        table.row(["1".to_string(), "long name".to_string(), "x".to_string()]);
        table.row(["100".to_string(), "é".to_string(), String::new()]);
        let expected = "  ID   NAME       WHY\n  \
                          1    long name  x\n  \
                          100  é\n";
        assert_eq!(table.to_string(), expected);
    }
}
