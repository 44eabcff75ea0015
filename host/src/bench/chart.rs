// SPDX-License-Identifier: MIT OR Apache-2.0

//! Charts as SVG: bars side by side for each thing that was measured; lines for what grows.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Bars, on a logarithmic axis.
#[derive(Debug, Clone)]
pub struct Bars<'a> {
    /// What stands above.
    pub title: &'a str,
    /// What the axis measures.
    pub unit: &'a str,
    /// Who was measured: one colour each.
    pub series: Vec<String>,
    /// What was measured, with the figure of each of the `series`, if it has one.
    pub groups: Vec<(String, Vec<Option<f64>>)>,
}

const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(127, 127, 127),
];

/// Pixels of a bar.
const BAR: i32 = 9;
/// Pixels for the names at the left.
const NAMES: i32 = 210;
/// Pixels at the top, for title, legend and axis.
const TOP: i32 = 84;
/// Pixels from the left end of the axis to the right.
const LENGTH: i32 = 640;

impl Bars<'_> {
    /// Draws them to the file `path`.
    ///
    /// # Errors
    /// If there is nothing to draw, or the file cannot be written.
    pub fn draw(&self, path: &Path) -> Result<()> {
        let values = || self.groups.iter().flat_map(|(_, values)| values.iter().flatten().copied());
        let positive = values().filter(|value| *value > 0.0);
        let least =
            positive.clone().min_by(f64::total_cmp).ok_or_else(|| anyhow!("no figures for a chart"))?;
        let greatest = positive.max_by(f64::total_cmp).unwrap_or(least);
        let (first, last) = (least.log10().floor(), (greatest.log10() + 0.01).ceil());
        let place = |value: f64| {
            let part = (value.log10() - first) / (last - first);
            // Between 0 and LENGTH, since the value lies between the ends of the axis.
            NAMES + (part * f64::from(LENGTH)) as i32
        };

        let group = BAR * i32::try_from(self.series.len())? + BAR;
        let bottom = TOP + group * i32::try_from(self.groups.len())?;
        let size = (u32::try_from(NAMES + LENGTH + 60)?, u32::try_from(bottom + 16)?);
        let area = SVGBackend::new(path, size).into_drawing_area();
        let failed = |error| anyhow!("cannot draw {}: {error}", path.display());
        area.fill(&WHITE).map_err(|error| failed(error.to_string()))?;
        let text = |text: &str, at: (i32, i32), pixels: i32| {
            let style = ("sans-serif", pixels).into_font().color(&BLACK);
            area.draw(&Text::new(text.to_owned(), at, style)).map_err(|error| failed(error.to_string()))
        };
        let rectangle = |corners: [(i32, i32); 2], colour: RGBColor| {
            area.draw(&Rectangle::new(corners, colour.filled())).map_err(|error| failed(error.to_string()))
        };

        text(self.title, (12, 8), 18)?;
        let step = (LENGTH / i32::try_from(self.series.len().max(1))?).min(170);
        for (index, name) in (0..).zip(&self.series) {
            let left = NAMES + step * index;
            rectangle([(left, 36), (left + 10, 46)], colour(index))?;
            text(name, (left + 15, 35), 12)?;
        }
        text(self.unit, (12, TOP - 20), 12)?;
        // At most 30 powers of ten separate two figures that a program can measure.
        for exponent in first as i32..=last as i32 {
            let at = place(10_f64.powi(exponent));
            rectangle([(at, TOP - 4), (at, bottom)], RGBColor(220, 220, 220))?;
            text(&super::report::number(10_f64.powi(exponent)), (at - 12, TOP - 20), 11)?;
        }
        for (index, (name, values)) in (0..).zip(&self.groups) {
            let top = TOP + group * index;
            text(name, (12, top + group / 2 - 10), 12)?;
            for (bar, value) in (0..).zip(values) {
                if let Some(value) = value.filter(|value| *value > 0.0) {
                    let top = top + BAR * bar;
                    rectangle([(NAMES, top), (place(value).max(NAMES + 1), top + BAR - 2)], colour(bar))?;
                }
            }
        }
        area.present().map_err(|error| failed(error.to_string()))
    }
}

/// Lines through points, both axes logarithmic.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    /// What stands above.
    pub title: &'a str,
    /// What the axis across measures.
    pub across: &'a str,
    /// What was measured, with its points: across, up.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

impl Lines<'_> {
    /// Draws them to the file `path`.
    ///
    /// # Errors
    /// If there is nothing to draw, or the file cannot be written.
    pub fn draw(&self, path: &Path) -> Result<()> {
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let ends = |of: fn(&(f64, f64)) -> f64| -> Result<std::ops::Range<f64>> {
            let values = || points().map(of).filter(|value| *value > 0.0);
            let least = values().min_by(f64::total_cmp).ok_or_else(|| anyhow!("no figures for a chart"))?;
            let greatest = values().max_by(f64::total_cmp).unwrap_or(least);
            // Room at both ends, also for a single point.
            Ok(least / 2.0..greatest * 2.0)
        };
        let failed = |error: String| anyhow!("cannot draw {}: {error}", path.display());
        let area = SVGBackend::new(path, (900, 480)).into_drawing_area();
        area.fill(&WHITE).map_err(|error| failed(error.to_string()))?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(ends(|point| point.0)?.log_scale(), ends(|point| point.1)?.log_scale())
            .map_err(|error| failed(error.to_string()))?;
        chart
            .configure_mesh()
            .x_desc(self.across)
            .x_label_formatter(&|value| super::report::number(*value))
            .y_label_formatter(&|value| super::report::number(*value))
            .draw()
            .map_err(|error| failed(error.to_string()))?;
        for (index, (name, points)) in (0..).zip(&self.series) {
            let line = LineSeries::new(points.iter().copied(), colour(index).stroke_width(2)).point_size(3);
            let drawn = chart.draw_series(line).map_err(|error| failed(error.to_string()))?;
            drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour(index)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .border_style(BLACK)
            .background_style(WHITE.mix(0.8))
            .draw()
            .map_err(|error| failed(error.to_string()))?;
        area.present().map_err(|error| failed(error.to_string()))
    }
}

fn colour(index: i32) -> RGBColor {
    let index = usize::try_from(index).unwrap_or_default();
    COLOURS[index % COLOURS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_bar_for_each_figure_and_none_where_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chart.svg");
        let groups = vec![
            ("read".to_owned(), vec![Some(10.0), Some(1000.0)]),
            ("write".to_owned(), vec![Some(3.0), None]),
        ];
        let series = vec!["one".to_owned(), "two".to_owned()];
        Bars { title: "t", unit: "u", series: series.clone(), groups }.draw(&path).unwrap();
        let drawn = std::fs::read_to_string(&path).unwrap();
        let bars = |colour: &str| drawn.matches(colour).count();
        // Each colour stands once in the legend.
        assert_eq!((bars("#1F77B4"), bars("#FF7F0E")), (3, 2), "{drawn}");
        assert!(Bars { title: "t", unit: "u", series, groups: Vec::new() }.draw(&path).is_err());
    }
    #[test]
    fn lines_have_their_points_and_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chart.svg");
        let series = vec![("walk".to_owned(), vec![(1.0, 5.0), (1000.0, 7.0)])];
        Lines { title: "t", across: "files", series }.draw(&path).unwrap();
        let drawn = std::fs::read_to_string(&path).unwrap();
        assert!(drawn.contains("walk") && drawn.contains("files") && drawn.contains("<polyline"), "{drawn}");
        assert_eq!(drawn.matches("<circle").count(), 2, "{drawn}");
        assert!(Lines { title: "t", across: "files", series: Vec::new() }.draw(&path).is_err());
    }
}
