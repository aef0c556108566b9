"""What an operator does with a service's state: check it, mend it, back it up, bring it back.

The same for the registry and the management service: what their rows mean they tell through
`scrub.Books` and `plan.Plan`, and the commands of both are made here (`commands`). Nothing here
knows a table.
"""
