from django.db import migrations, models

# Whatever writes users (a sign-up, COPY, raw SQL) is counted in its own transaction, and never waits for another:
# a piece that somebody else holds is left out, and where none is free there is a new one. So there are never more
# pieces of a kind than transactions that counted it at the same time.
COUNT_USERS = """
CREATE FUNCTION accounts_add_to_user_count(its_gender varchar, active boolean, verified boolean, number bigint)
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    piece bigint;
BEGIN
    SELECT id INTO piece FROM accounts_usercount
    WHERE gender = its_gender AND is_active = active AND email_verified = verified LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        UPDATE accounts_usercount SET count = count + number WHERE id = piece;
    ELSE
        INSERT INTO accounts_usercount (gender, is_active, email_verified, count)
        VALUES (its_gender, active, verified, number);
    END IF;
END $$;
CREATE FUNCTION accounts_count_users() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM accounts_add_to_user_count(gender, is_active, email_verified, count(*))
        FROM come GROUP BY gender, is_active, email_verified;
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM accounts_add_to_user_count(gender, is_active, email_verified, sum(one)) FROM (
            SELECT gender, is_active, email_verified, 1 AS one FROM come
            UNION ALL SELECT gender, is_active, email_verified, -1 FROM gone
        ) AS changed GROUP BY gender, is_active, email_verified HAVING sum(one) <> 0;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM accounts_add_to_user_count(gender, is_active, email_verified, -count(*))
        FROM gone GROUP BY gender, is_active, email_verified;
    ELSE
        DELETE FROM accounts_usercount;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_users_come AFTER INSERT ON accounts_user REFERENCING NEW TABLE AS come
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_count_users();
CREATE TRIGGER accounts_users_change AFTER UPDATE ON accounts_user REFERENCING OLD TABLE AS gone NEW TABLE AS come
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_count_users();
CREATE TRIGGER accounts_users_go AFTER DELETE ON accounts_user REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_count_users();
CREATE TRIGGER accounts_users_all_go AFTER TRUNCATE ON accounts_user
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_count_users();
"""
COUNT_NO_USERS = """
DROP TRIGGER accounts_users_come ON accounts_user;
DROP TRIGGER accounts_users_change ON accounts_user;
DROP TRIGGER accounts_users_go ON accounts_user;
DROP TRIGGER accounts_users_all_go ON accounts_user;
DROP FUNCTION accounts_count_users();
DROP FUNCTION accounts_add_to_user_count(varchar, boolean, boolean, bigint);
"""

COUNT_EVENTS = """
CREATE FUNCTION accounts_count_events() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    change record;
    piece bigint;
BEGIN
    FOR change IN
        SELECT (created_at AT TIME ZONE 'UTC')::date AS day, kind, count(*) AS n FROM come GROUP BY 1, 2
    LOOP
        SELECT id INTO piece FROM accounts_eventcount
        WHERE day = change.day AND kind = change.kind LIMIT 1 FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            UPDATE accounts_eventcount SET count = count + change.n WHERE id = piece;
        ELSE
            INSERT INTO accounts_eventcount (day, kind, count) VALUES (change.day, change.kind, change.n);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_events_come AFTER INSERT ON accounts_event REFERENCING NEW TABLE AS come
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_count_events();
"""
COUNT_NO_EVENTS = """
DROP TRIGGER accounts_events_come ON accounts_event;
DROP FUNCTION accounts_count_events();
"""

# Pieces are rewritten all the time: with half of each page free the new version stays there (a HOT update).
FREE_HALF = "ALTER TABLE accounts_usercount SET (fillfactor = 50); ALTER TABLE accounts_eventcount SET (fillfactor = 50)"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0009_second_factors")]
    operations = [
        migrations.CreateModel(
            name="UserCount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("gender", models.CharField(max_length=11)),
                ("is_active", models.BooleanField()),
                ("email_verified", models.BooleanField()),
                ("count", models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="EventCount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField()),
                ("kind", models.CharField(max_length=40)),
                ("count", models.BigIntegerField()),
            ],
            options={"indexes": [models.Index(models.F("kind"), models.F("day"), name="event_count_of_day")]},
        ),
        migrations.RunSQL(FREE_HALF, migrations.RunSQL.noop),
        migrations.RunSQL(COUNT_USERS, COUNT_NO_USERS),
        migrations.RunSQL(COUNT_EVENTS, COUNT_NO_EVENTS),
    ]
