"""Run by Alembic for each migration, on the connection that `studio.store.database` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
