//! What one request sees of the routes.

use crate::priors::Priors;
use crate::routes::Routes;

/// One configuration and one table. A request keeps them from its plan to its last attempt.
#[derive(Debug, Clone, Copy)]
pub struct RoutingView<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) priors: &'a Priors,
}

impl Routes {
    /// The view for one request.
    pub fn view<'a>(&'a self, priors: &'a Priors) -> RoutingView<'a> {
        RoutingView {
            routes: self,
            priors,
        }
    }
}
