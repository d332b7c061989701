-- What a webhook sends instead of the usual payload: JSON, as the API has it, and the parameters, which are sealed.
ALTER TABLE webhooks ADD COLUMN template TEXT;
ALTER TABLE webhooks ADD COLUMN template_parameters BYTEA;
