//! The call graph: its cycles, who never returns, and the deepest way down from each function.

use std::collections::BTreeSet;

use super::trace::{Base, Call, Trace};

/// The deepest way down from a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Bytes of stack below where it stood when the function was entered.
    pub bytes: i64,
    /// The call to follow for it, if there is one.
    pub next: Option<Call>,
}

/// Groups of functions that call each other, or of one that calls itself: recursion.
pub fn cycles(traces: &[Trace]) -> Vec<Vec<usize>> {
    let mut search = Search { traces, order: vec![None; traces.len()], ..Search::default() };
    for function in 0..traces.len() {
        if search.order[function].is_none() {
            search.visit(function);
        }
    }
    search.cycles
}

/// Tarjan's search for strongly connected components ("Depth-First Search and Linear Graph Algorithms", 1972).
#[derive(Default)]
struct Search<'a> {
    traces: &'a [Trace],
    /// When each function was first seen.
    order: Vec<Option<usize>>,
    seen: usize,
    open: Vec<usize>,
    cycles: Vec<Vec<usize>>,
}

impl Search<'_> {
    /// Answers the earliest open function that can be reached from this one.
    fn visit(&mut self, function: usize) -> usize {
        let own = self.seen;
        let mut earliest = own;
        self.order[function] = Some(own);
        self.seen += 1;
        self.open.push(function);
        let traces = self.traces;
        for callee in traces[function].calls.iter().map(|call| call.callee) {
            match self.order[callee] {
                None => earliest = earliest.min(self.visit(callee)),
                Some(order) if self.open.contains(&callee) => earliest = earliest.min(order),
                Some(_) => {}
            }
        }
        if earliest == own {
            let place = self.open.iter().rposition(|open| *open == function).unwrap_or_default();
            let mut group = self.open.split_off(place);
            group.sort_unstable();
            if group.len() > 1 || traces[function].calls.iter().any(|call| call.callee == function) {
                self.cycles.push(group);
            }
        }
        earliest
    }
}

/// Functions that never return: neither do they by themselves, nor does what they jump to or go on with.
pub fn endless(traces: &[Trace]) -> BTreeSet<usize> {
    let mut endless: BTreeSet<usize> = (0..traces.len()).filter(|function| !traces[*function].returns).collect();
    loop {
        let goes_on = |call: &Call| !call.returns && !endless.contains(&call.callee);
        let returning = endless.iter().copied().find(|function| traces[*function].calls.iter().any(goes_on));
        let Some(function) = returning else { return endless };
        endless.remove(&function);
    }
}

/// The deepest way down from each function, of a graph without cycles. What happens on another stack doesn't count.
pub fn ways(traces: &[Trace]) -> Vec<Way> {
    let mut ways = vec![None; traces.len()];
    (0..traces.len()).for_each(|function| _ = way(traces, function, &mut ways));
    ways.into_iter().map(Option::unwrap_or_default).collect()
}

fn way(traces: &[Trace], function: usize, ways: &mut Vec<Option<Way>>) -> i64 {
    if let Some(way) = &ways[function] {
        return way.bytes;
    }
    let mut best = Way { bytes: traces[function].own, next: None };
    for call in traces[function].calls.iter().filter(|call| call.depth.base == Base::Entry) {
        let bytes = call.depth.bytes + way(traces, call.callee, ways);
        if bytes > best.bytes || (bytes == best.bytes && best.next.is_none()) {
            best = Way { bytes, next: Some(*call) };
        }
    }
    let bytes = best.bytes;
    ways[function] = Some(best);
    bytes
}
