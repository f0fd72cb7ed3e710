//! Figures for people, beside the lines for programs.

use serde_json::Value;

/// A table in Markdown.
pub(crate) struct Table {
    columns: &'static [&'static str],
    lines: Vec<String>,
}

impl Table {
    /// Of these keys, in this order.
    pub(crate) fn new(title: &str, columns: &'static [&'static str]) -> Table {
        let mut table = Table { columns, lines: vec![format!("\n{title}\n")] };
        table.line(columns.iter().map(ToString::to_string));
        table.line(columns.iter().map(|_| "---".to_string()));
        table
    }

    /// A figure: a line of JSON at once, and a row for the end.
    pub(crate) fn figure(&mut self, figure: &Value) {
        println!("{figure}");
        let text = |column: &&str| {
            let value = &figure[*column];
            value.as_str().map_or_else(|| value.to_string(), str::to_string)
        };
        self.line(self.columns.iter().map(text));
    }

    pub(crate) fn print(&self) {
        println!("{}\n", self.lines.join("\n"));
    }

    fn line(&mut self, cells: impl Iterator<Item = String>) {
        let cells: Vec<String> = cells.collect();
        self.lines.push(format!("| {} |", cells.join(" | ")));
    }
}
