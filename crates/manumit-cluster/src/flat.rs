//! Plans of any depth on their way to the scheduler.
//!
//! Protocol Buffers as `prost` reads them may be nested a hundred deep and no deeper, which is some forty operators: a
//! sequence of four steps has more. So a plan travels in parts, none of them deep, each a message of its own; where a part was
//! cut off stands its number.

use bytes::BufMut;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion_proto::logical_plan::{AsLogicalPlan, LogicalExtensionCodec};
use datafusion_proto::protobuf::logical_plan_node::LogicalPlanType;
use datafusion_proto::protobuf::{LogicalExtensionNode, LogicalPlanNode};

/// Operators on top of each other in a part; expressions in them are nested, too.
const DEEPEST: usize = 10;

/// What stands where a part was cut off, before its number.
const MARK: &[u8] = b"manumit:part:";

/// A plan in parts. Each refers to parts before it; the last one is the root.
#[derive(Debug, Clone)]
pub(crate) struct FlatPlan {
    parts: Vec<LogicalPlanNode>,
}

/// The operators below one; kinds that no query of ours has are taken as leaves.
fn below(node: &mut LogicalPlanNode) -> Vec<&mut LogicalPlanNode> {
    use LogicalPlanType as Kind;
    let Some(kind) = &mut node.logical_plan_type else { return Vec::new() };
    let (one, other) = match kind {
        Kind::Projection(node) => (&mut node.input, None),
        Kind::Selection(node) => (&mut node.input, None),
        Kind::Limit(node) => (&mut node.input, None),
        Kind::Aggregate(node) => (&mut node.input, None),
        Kind::Sort(node) => (&mut node.input, None),
        Kind::Repartition(node) => (&mut node.input, None),
        Kind::Window(node) => (&mut node.input, None),
        Kind::SubqueryAlias(node) => (&mut node.input, None),
        Kind::Distinct(node) => (&mut node.input, None),
        Kind::Unnest(node) => (&mut node.input, None),
        Kind::Join(node) => (&mut node.left, Some(&mut node.right)),
        Kind::CrossJoin(node) => (&mut node.left, Some(&mut node.right)),
        Kind::Union(node) => return node.inputs.iter_mut().collect(),
        Kind::Extension(node) => return node.inputs.iter_mut().collect(),
        _ => return Vec::new(),
    };
    one.iter_mut().chain(other.into_iter().flatten()).map(AsMut::as_mut).collect()
}

/// Cuts off what lies too deep; gives how deep the rest is.
fn cut(node: &mut LogicalPlanNode, parts: &mut Vec<LogicalPlanNode>) -> usize {
    let mut deepest = 0;
    for child in below(node) {
        let mut depth = cut(child, parts);
        if depth >= DEEPEST {
            let mark = [MARK, parts.len().to_string().as_bytes()].concat();
            let mark = LogicalExtensionNode { node: mark, inputs: Vec::new() };
            let mark = LogicalPlanNode { logical_plan_type: Some(LogicalPlanType::Extension(mark)) };
            parts.push(std::mem::replace(child, mark));
            depth = 1;
        }
        deepest = deepest.max(depth);
    }
    deepest + 1
}

/// Puts parts back where they were cut off.
fn join(node: &mut LogicalPlanNode, parts: &mut [Option<LogicalPlanNode>]) -> Result<()> {
    if let Some(LogicalPlanType::Extension(extension)) = &node.logical_plan_type
        && let Some(number) = extension.node.strip_prefix(MARK)
    {
        let number = std::str::from_utf8(number).ok().and_then(|text| text.parse::<usize>().ok());
        let part = number.and_then(|number| parts.get_mut(number)).and_then(Option::take);
        *node = part.ok_or_else(|| broken("a part is missing"))?;
    }
    for child in below(node) {
        join(child, parts)?;
    }
    Ok(())
}

fn broken(why: &str) -> DataFusionError {
    DataFusionError::Internal(format!("the plan did not arrive whole: {why}"))
}

impl AsLogicalPlan for FlatPlan {
    fn try_decode(mut buffer: &[u8]) -> Result<Self> {
        let mut parts = Vec::new();
        while !buffer.is_empty() {
            let (length, rest) = buffer.split_first_chunk::<8>().ok_or_else(|| broken("it ends early"))?;
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let part = rest.get(..length).ok_or_else(|| broken("a part ends early"))?;
            parts.push(LogicalPlanNode::try_decode(part)?);
            buffer = &rest[length..];
        }
        Ok(FlatPlan { parts })
    }

    fn try_encode<B: BufMut>(&self, buffer: &mut B) -> Result<()> {
        for part in &self.parts {
            let mut bytes = Vec::new();
            part.try_encode(&mut bytes)?;
            buffer.put_u64_le(bytes.len() as u64);
            buffer.put_slice(&bytes);
        }
        Ok(())
    }

    fn try_into_logical_plan(
        &self,
        context: &TaskContext,
        codec: &dyn LogicalExtensionCodec,
    ) -> Result<LogicalPlan> {
        let mut parts: Vec<Option<LogicalPlanNode>> = self.parts.iter().cloned().map(Some).collect();
        let mut root = parts.pop().flatten().ok_or_else(|| broken("it is empty"))?;
        join(&mut root, &mut parts)?;
        root.try_into_logical_plan(context, codec)
    }

    fn try_from_logical_plan(plan: &LogicalPlan, codec: &dyn LogicalExtensionCodec) -> Result<Self> {
        let mut root = LogicalPlanNode::try_from_logical_plan(plan, codec)?;
        let mut parts = Vec::new();
        cut(&mut root, &mut parts);
        parts.push(root);
        Ok(FlatPlan { parts })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;
    use datafusion_proto::logical_plan::DefaultLogicalExtensionCodec;

    use super::*;

    #[tokio::test]
    async fn a_plan_too_deep_for_one_message_arrives_as_it_was() {
        let context = SessionContext::new();
        // As a query of tables named one after the other: the parser has a limit of its own for what is nested.
        let mut query = "WITH q0 AS (SELECT 1 AS n)".to_string();
        for step in 1..=20 {
            let before = step - 1;
            query.push_str(&format!(
                ", q{step} AS (SELECT a.n + 1 AS n FROM q{before} AS a JOIN (SELECT {step} AS m) AS b ON b.m <= a.n)"
            ));
        }
        query.push_str(" SELECT n FROM q20");
        let plan = context.state().create_logical_plan(&query).await.unwrap();
        let codec = DefaultLogicalExtensionCodec {};
        let mut whole = Vec::new();
        LogicalPlanNode::try_from_logical_plan(&plan, &codec).unwrap().try_encode(&mut whole).unwrap();
        assert!(LogicalPlanNode::try_decode(&whole).is_err(), "not deep enough to show anything");

        let flat = FlatPlan::try_from_logical_plan(&plan, &codec).unwrap();
        let mut bytes = Vec::new();
        flat.try_encode(&mut bytes).unwrap();
        let back = FlatPlan::try_decode(&bytes).unwrap();
        assert!(back.parts.len() > 5);
        let again = back.try_into_logical_plan(&context.task_ctx(), &codec).unwrap();
        assert_eq!(format!("{plan:?}"), format!("{again:?}"));
        assert!(FlatPlan::try_decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
